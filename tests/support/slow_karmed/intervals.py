"""Those that duel by an index of each pair: random, RUCB, RMED, DTS."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import betaincinv

from slow_karmed.replicate import Slow, divergence, pick, pick_largest


class SlowRandom(Slow):
    def choose(self):
        return tuple(int(u * len(self.arms)) for u in self.draw(2))


class SlowRUCB(Slow):
    def start(self, informed=True):
        self.favourite, self.informed = None, informed

    def points(self, i):
        return sum(np.sign(self.wins[i, j] - self.wins[j, i]) for j in self.arms)

    def choose(self):
        uniform = self.draw()
        candidates = [c for c in self.arms if all(self.upper(c, j, 0.51) >= 0.5 for j in self.arms)]
        if self.favourite not in candidates:
            self.favourite = None
        if len(candidates) == 1:
            self.favourite = champion = candidates[0]
        else:
            if self.informed and candidates and self.favourite is None:
                self.favourite = max(candidates, key=lambda c: (self.points(c), -c))
            if not candidates:
                champion = pick(list(self.arms), uniform)
            elif self.favourite is None:
                champion = pick(candidates, uniform)
            elif uniform < 0.5:
                champion = self.favourite
            else:
                champion = pick([c for c in candidates if c != self.favourite], 2 * uniform - 1)
        if self.informed:
            return champion, max(self.arms, key=lambda j: (min(self.upper(j, champion, 0.51), 1.0), self.points(j), -j))
        return champion, pick_largest({j: self.upper(j, champion, 0.51) for j in self.arms}, self.draw(1)[0])


class SlowRMED1(Slow):
    def start(self):
        self.current, self.following = list(self.arms), []
        self.queue = [(i, j) for i in self.arms for j in self.arms if i < j]

    def chance(self, i, j):
        return 0.5 if self.met(i, j) == 0 else super().chance(i, j)

    def opponents(self, i):
        return [j for j in self.arms if j != i and self.chance(i, j) <= 0.5]

    def index(self, i):
        return sum(self.met(i, j) * divergence(self.chance(i, j)) for j in self.opponents(i))

    def initial(self):
        return self.queue.pop(0) if self.queue else None

    def choose(self):
        pair = self.initial()
        if pair is not None:
            return pair
        indices = [self.index(i) for i in self.arms]
        best = min(self.arms, key=lambda i: (round(indices[i], 9), i))
        arm = self.current.pop(0)
        pair = arm, self.opponent(arm, best, indices)
        return pair

    def learn(self, i, j, label):
        super().learn(i, j, label)
        indices = [self.index(i) for i in self.arms]
        slack = math.log(self.t) + 0.3 * len(self.arms) ** 1.01
        for arm in self.arms:
            if arm not in self.current and arm not in self.following and indices[arm] - min(indices) <= slack:
                self.following.append(arm)
        if not self.current:
            self.current, self.following = sorted(self.following), []

    def opponent(self, arm, best, indices):
        rivals = self.opponents(arm)
        if best in rivals or not rivals:
            return best
        return min(rivals, key=lambda j: (self.chance(arm, j), round(indices[j], 9), j))


class SlowRMED2(SlowRMED1):
    def start(self, fixed_horizon=False):
        super().start()
        self.fixed_horizon, self.fixed = fixed_horizon, None

    @staticmethod
    def log_log(t):
        return max(math.log(max(math.log(t), 1)), 0.01)

    def initial(self):
        need = max(3 * self.log_log(self.horizon if self.fixed_horizon else self.t), 1e-9)
        pairs = [(self.met(i, j), i, j) for i in self.arms for j in self.arms if i < j]
        least = min(pairs)
        return least[1:] if least[0] < need else None

    def telling(self, arm, best):
        def cost(j):
            gap = [0.0 if k == best else self.chance(best, k) - 0.5 for k in (arm, j)]
            return max(sum(gap), 0.0) / divergence(self.chance(arm, j))

        rivals = [j for j in self.arms if j != arm and self.chance(arm, j) < 0.5]
        return min(rivals, key=lambda j: (cost(j), j)) if rivals else 0

    def opponent(self, arm, best, indices):
        if self.fixed_horizon:
            if self.fixed is None:
                self.fixed = [self.telling(i, best) for i in self.arms]
            telling = self.fixed[arm]
        else:
            telling = self.telling(arm, best)
        keeps_up = self.met(arm, best) >= self.met(arm, telling) / self.log_log(self.t)
        if telling in self.opponents(arm) and keeps_up:
            return telling
        return super().opponent(arm, best, indices)


class SlowDTS(Slow):
    def start(self, plus=False):
        self.plus = plus

    def theta(self, i, j, uniform):
        """Draw from Beta(wins_ij + 1, wins_ji + 1) by the inverse of its distribution function."""
        return betaincinv(self.wins[i, j] + 1, self.wins[j, i] + 1, uniform)

    def choose(self):
        num_arms = len(self.arms)
        pairs = [(i, j) for i in self.arms for j in self.arms if i < j]
        first_draw, ties, second_draw = self.draw(len(pairs)), self.draw(), self.draw(num_arms)
        optimistic = [sum(self.upper(i, j, 0.51) > 0.5 for j in self.arms if j != i) for i in self.arms]
        candidates = [i for i in self.arms if optimistic[i] == max(optimistic)]
        theta = np.full((num_arms, num_arms), 0.5)
        for (i, j), uniform in zip(pairs, first_draw, strict=True):
            theta[i, j] = self.theta(i, j, uniform)
            theta[j, i] = 1 - theta[i, j]
        scores = (theta > 0.5).sum(axis=1)
        top = [i for i in candidates if scores[i] == max(scores[k] for k in candidates)]
        champion = pick(top, ties)
        if self.plus and len(top) > 1:
            champion = min(top, key=lambda i: self.regret(i, theta, scores))
        # The COLUMN of the champion: theta_ia, the chance of each rival against it.
        rivals = [i for i in self.arms if self.lower(i, champion, 0.51) <= 0.5]
        beta = {i: 0.5 if i == champion else self.theta(i, champion, second_draw[i]) for i in rivals}
        return champion, max(rivals, key=lambda i: beta[i])

    def regret(self, i, theta, scores):
        losses = 2 * scores.max() - scores[i] - scores
        return sum(losses[j] / divergence(theta[i, j]) for j in self.arms if j != i)
