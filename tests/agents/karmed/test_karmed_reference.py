"""Each K-armed algorithm against a slow one written from its paper with plain loops, one replicate at a time.

The slow ones keep only win counts (and what the paper keeps besides), compute every bound afresh each round, and read
the same streams; they must choose the same pairs.
"""

from __future__ import annotations

import itertools
import math
from functools import partial

import gymnasium
import numpy as np
import pytest
from scipy.special import betaincinv

import duelenv.agents
import duelenv.agents.karmed
from duelenv.ground.randomness import RowStreams

ROWS = 6
MATRICES = {
    "transitive": 1 / (1 + np.exp(np.subtract.outer([0.0, 0.4, 0.9, 1.6, 2.2], [0.0, 0.4, 0.9, 1.6, 2.2]))),
    "cyclic": np.array([[0.5, 0.8, 0.3, 0.6], [0.2, 0.5, 0.7, 0.6], [0.7, 0.3, 0.5, 0.6], [0.4, 0.4, 0.4, 0.5]]),
}


class Slow:
    """One replicate: win counts and the round; `draw` is set before each round."""

    def __init__(self, num_arms, horizon, **settings):
        self.arms, self.horizon = range(num_arms), horizon
        self.wins = np.zeros((num_arms, num_arms))
        self.t = 0
        self.start(**settings)

    def start(self):
        pass

    def met(self, i, j):
        return self.wins[i, j] + self.wins[j, i]

    def chance(self, i, j):
        return self.wins[i, j] / self.met(i, j)

    def upper(self, i, j, alpha):
        if i == j:
            return 0.5
        if self.met(i, j) == 0:
            return 1.0
        return self.chance(i, j) + math.sqrt(alpha * math.log(self.t) / self.met(i, j))

    def lower(self, i, j, alpha):
        return 1 - self.upper(j, i, alpha)

    def act(self):
        self.t += 1
        return self.choose()

    def learn(self, i, j, label):
        if i != j:
            self.wins[i, j] += label
            self.wins[j, i] += 1 - label


def pick(members, uniform):
    return members[int(uniform * len(members))]


def pick_largest(values, uniform):
    """A random one of the keys with the largest value."""
    return pick([key for key in sorted(values) if values[key] == max(values.values())], uniform)


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


def divergence(p, q=0.5):
    terms = [a * math.log(a / b) for a, b in ((p, q), (1 - p, 1 - q)) if a > 0]
    return sum(terms)


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


class SlowUCB:
    def __init__(self, num_arms):
        self.gains, self.plays = np.zeros(num_arms), np.zeros(num_arms)

    def choose(self, arms):
        for arm in arms:
            if self.plays[arm] == 0:
                return arm
        bonus = 2.5 * math.log(self.plays.sum())
        index = {i: self.gains[i] / self.plays[i] + math.sqrt(bonus / self.plays[i]) for i in arms}
        return max(arms, key=lambda i: index[i])

    def learn(self, arm, gain):
        self.gains[arm] += gain
        self.plays[arm] += 1


class SlowSparring(Slow):
    def start(self):
        self.left, self.right = SlowUCB(len(self.arms)), SlowUCB(len(self.arms))

    def choose(self):
        return self.left.choose(list(self.arms)), self.right.choose(list(reversed(self.arms)))

    def learn(self, i, j, label):
        self.left.learn(i, label)
        self.right.learn(j, 1 - label)


class SlowMultiSBM(Slow):
    def start(self):
        self.players, self.current = [SlowUCB(len(self.arms)) for _ in self.arms], 0

    def choose(self):
        left, self.current = self.current, self.players[self.current].choose(list(self.arms))
        return left, self.current

    def learn(self, i, j, label):
        self.players[i].learn(j, 1 - label)


class SlowBeatTheMean(Slow):
    def start(self):
        self.active = list(self.arms)
        self.duels = []  # (first, second, label), which count for the first

    def own(self, b):
        return [label for i, j, label in self.duels if i == b and j in self.active]

    def choose(self):
        uniform = self.draw()
        if len(self.active) == 1:
            return self.active[0], self.active[0]
        first = min(self.active, key=lambda b: (len(self.own(b)), b))
        return first, pick([b for b in self.active if b != first], uniform)

    def learn(self, i, j, label):
        if i == j:
            return
        self.duels.append((i, j, label))
        own = {b: self.own(b) for b in self.active}
        share = {b: np.mean(own[b]) if own[b] else 0.5 for b in self.active}
        fewest = min(len(labels) for labels in own.values())
        width = 1.44 * math.sqrt(math.log(2 * len(self.arms) * self.horizon) / fewest) if fewest else 1.0
        worst = min(self.active, key=lambda b: share[b])
        if share[worst] + width < max(share.values()) - width:
            self.active.remove(worst)


class SlowInterleavedFilter(Slow):
    def start(self):
        self.champion, self.active = 0, [j for j in self.arms if j]
        self.sweep = list(self.active)

    def choose(self):
        return self.champion, self.sweep[0] if self.sweep else self.champion

    def learn(self, i, j, label):
        super().learn(i, j, label)
        if i == j:
            return
        self.sweep.remove(j)
        if self.sweep:
            return
        log_term = 4 * math.log(len(self.arms) ** 2 * self.horizon)
        p = {b: self.chance(i, b) for b in self.active}
        c = {b: math.sqrt(log_term / self.met(i, b)) for b in self.active}
        successors = [b for b in self.active if p[b] + c[b] < 0.5]
        self.active = [b for b in self.active if p[b] - c[b] <= 0.5]
        if successors:
            self.champion = min(successors, key=lambda b: (p[b], b))
            self.active = [b for b in self.active if p[b] <= 0.5 and b != self.champion]
        self.sweep = list(self.active)


class SlowSavage(Slow):
    def start(self):
        self.active = list(self.arms)

    def choose(self):
        if len(self.active) == 1:
            return self.active[0], self.active[0]
        return min((self.met(i, j), i, j) for i in self.active for j in self.active if i < j)[1:]

    def learn(self, i, j, label):
        super().learn(i, j, label)
        log_term = math.log(2 * len(self.arms) * self.horizon**2)  # delta = 1 / T
        for arm in list(self.active):
            for other in self.arms:
                n = self.met(arm, other)
                worse = n and self.chance(arm, other) + math.sqrt(log_term / (2 * n)) < 0.5
                if worse and arm in self.active:
                    self.active.remove(arm)


class SlowWinnerStays(Slow):
    def start(self, regret="strong"):
        self.regret, self.score = regret, np.zeros(len(self.arms))
        self.last, self.level, self.exploit = (0, 1), 1, 0

    def choose(self):
        if self.exploit:
            self.exploit -= 1
            return (int(self.score.argmax()),) * 2

        def rank(arm):
            tie = 2 if arm == self.last[0] else 1 if arm == self.last[1] else 0
            return self.score[arm], tie, -arm

        self.last = tuple(sorted(self.arms, key=rank, reverse=True)[:2])
        return self.last

    def learn(self, i, j, label):
        if i == j:
            return
        self.score[i] += 2 * label - 1
        self.score[j] -= 2 * label - 1
        if self.regret == "strong" and self.score.max() >= (len(self.arms) - 1) * self.level:
            self.exploit = math.floor(1.1**self.level)
            self.level += 1


class SlowVersatile(Slow):
    def start(self):
        self.losses = np.zeros((2, len(self.arms)))

    def weights(self, losses, rate):
        low, high = losses.min() - 2 * math.sqrt(len(losses)) / rate, losses.min() - 2 / rate
        for _ in range(200):  # bisection on the normaliser
            middle = (low + high) / 2
            if (4 / (rate * (losses - middle)) ** 2).sum() < 1:
                low = middle
            else:
                high = middle
        weights = 4 / (rate * (losses - low)) ** 2
        return weights / weights.sum()

    def choose(self):
        self.rate = 4 / math.sqrt(self.t)
        self.w = [self.weights(losses, self.rate) for losses in self.losses]
        uniforms = self.draw(2)
        return tuple(int((np.cumsum(w)[:-1] <= u).sum()) for w, u in zip(self.w, uniforms, strict=True))

    def learn(self, i, j, label):
        for player, (arm, loss) in enumerate(((i, 1 - label), (j, label))):
            base = np.where(self.w[player] >= self.rate**2, 0.5, 0.0)
            estimate = base.copy()
            estimate[arm] += (loss - base[arm]) / self.w[player][arm]
            self.losses[player] += estimate


class SlowMergeRUCB(Slow):
    def start(self, partition=4):
        arms = list(self.arms)
        self.batches = [arms[k : k + partition] for k in range(0, len(arms), partition)]
        self.stage = 1

    def choose(self):
        uniform = self.draw()
        due = (self.t - 1) % len(self.batches)
        batch = self.batches[due]

        def excess(i):  # how far i is from staying, in the units of alpha ln t
            gaps = [(self.met(i, j), 0.5 - self.chance(i, j)) for j in batch if j != i and self.met(i, j)]
            return max([n * max(gap, 0) ** 2 for n, gap in gaps], default=0.0)

        nearest = min(batch, key=lambda i: (excess(i), i))
        keep = [i for i in batch if i == nearest or all(self.upper(i, j, 1.01) >= 0.5 for j in batch)]
        self.batches[due] = keep
        if len(keep) == 1 and len(self.batches) > 1:
            following = self.batches[(due + 1) % len(self.batches)]
            following.extend(keep)
            following.sort()
            del self.batches[due]
            keep = following
        champion = pick(keep, uniform)
        rivals = [j for j in keep if j != champion]
        challenger = max(rivals, key=lambda j: (self.upper(j, champion, 1.01), -j)) if rivals else champion
        left = sum(len(batch) for batch in self.batches)
        if left <= len(self.arms) / 2**self.stage and len(self.batches) > 1:
            order = sorted(self.batches, key=len)
            self.batches = [
                sorted(order[k] + (order[-1 - k] if len(order) - 1 - k != k else []))
                for k in range((len(order) + 1) // 2)
            ]
            self.stage += 1
        return champion, challenger


class SlowCCB(Slow):
    def start(self):
        self.reset()

    def reset(self):
        self.winners = set(self.arms)
        self.rivals = {i: set() for i in self.arms}
        self.losses = len(self.arms)

    def choose(self):
        draws = self.draw(6)
        alpha, arms = 0.51, self.arms
        surely = {(i, j): i != j and self.upper(j, i, alpha) < 0.5 for i in arms for j in arms}  # i beats j
        upper = {i: sum(not surely[j, i] for j in arms if j != i) for i in arms}
        lower = {i: sum(surely[i, j] for j in arms) for i in arms}
        candidates = {i for i in arms if upper[i] == max(upper.values())}
        if any(surely[i, j] for i in arms for j in self.rivals[i]):  # A
            self.reset()
        for i in sorted(self.winners):  # B
            if upper[i] < max(lower.values()):
                self.winners.discard(i)
                if len(self.rivals[i]) != self.losses + 1:
                    self.rivals[i] = {j for j in arms if surely[j, i]}
        if not self.winners:
            self.reset()
        sure = {i for i in candidates if upper[i] == lower[i]}  # C
        if sure:
            self.winners |= sure
            self.losses = len(arms) - 1 - max(upper.values())
            for j in arms:
                enough = len(self.rivals[j]) >= self.losses + 1 and j not in sure
                self.rivals[j] = set(sorted(self.rivals[j])[: self.losses + 1]) if enough else set()
        unsettled = [(i, j) for i in arms for j in sorted(self.rivals[i]) if not surely[i, j] and not surely[j, i]]
        if unsettled and draws[3] < 0.25:
            return pick(unsettled, draws[4])
        if candidates & self.winners and draws[0] < 2 / 3:
            candidates &= self.winners
        champion = pick(sorted(candidates), draws[1])
        pool = [j for j in arms if not surely[j, champion]]
        few = [j for j in pool if j in self.rivals[champion]]
        if few and draws[2] < 0.5:
            pool = few
        return champion, pick_largest({j: self.upper(j, champion, alpha) for j in pool}, draws[5])


class SlowSCB(Slow):
    def start(self, patience=1):
        self.epoch, self.end, self.patience = 0, 0, patience

    def need(self, duels):
        delta = math.log(self.length) / self.length
        return math.log(4 * len(self.arms) * duels / delta) + 2 * math.log(max(math.log(duels), 1))

    def rewards(self, arm):
        """Of the arm's pulls, up to the first opponent in its order with which it is not settled."""
        known = itertools.takewhile(lambda j: (arm, j) in self.beats, self.order[arm])
        return [self.beats[arm, j] for j in known]

    def score_bounds(self, arm):
        settled = [self.beats[arm, j] for j in self.arms if (arm, j) in self.beats]
        low, high = (
            count / (len(self.arms) - 1) for count in (sum(settled), len(self.arms) - 1 - settled.count(False))
        )
        rewards = self.rewards(arm)
        if rewards:
            level = self.need(self.length) / len(rewards)
            low = max(low, bound(np.mean(rewards), level, 0.0))
            high = min(high, bound(np.mean(rewards), level, 1.0))
        return low, high

    def learn(self, i, j, label):
        if i == j:
            return
        super().learn(i, j, label)
        enough = self.need(self.t - self.begin) < self.met(i, j) * divergence(self.chance(i, j))
        if not enough or (i, j) in self.beats:
            return
        self.beats[i, j] = bool(self.wins[i, j] > self.wins[j, i])
        self.beats[j, i] = not self.beats[i, j]
        bounds = {arm: self.score_bounds(arm) for arm in self.left}
        best = max(low for low, _ in bounds.values())
        self.left = [arm for arm in self.left if bounds[arm][1] >= best - 1e-9]
        if len(self.left) == 1 or all((i, j) in self.beats for i in self.left for j in self.arms if i != j):
            score = {i: sum(self.beats.get((i, j), False) for j in self.arms) for i in self.left}
            self.winner = max(self.left, key=lambda i: (score[i], -i))

    def choose(self):
        num_arms = len(self.arms)
        if self.t > self.end:
            self.begin, self.epoch = self.t - 1, self.epoch + 1
            self.length = 2 ** (2**self.epoch)
            self.end = self.begin + self.length
            uniforms = np.reshape(self.draw(num_arms * (num_arms - 1)), (num_arms, num_arms - 1))
            self.order = [[int(i + 1 + step) % num_arms for step in uniforms[i].argsort()] for i in self.arms]
            self.wins[...] = 0
            self.beats, self.left, self.winner = {}, list(self.arms), None
            self.arm, self.begun, self.spent = 0, 0, 0
        if self.winner is not None:
            return self.winner, self.winner
        pulls = [len(self.rewards(i)) for i in self.arms]
        waiting = [i for i in self.left if pulls[i] < num_arms - 1]
        impatient = self.patience is not None and self.spent >= self.patience
        if impatient or self.arm not in waiting or pulls[self.arm] > self.begun:
            self.arm = ([i for i in waiting if i > self.arm] + waiting)[0]
            self.begun, self.spent = pulls[self.arm], 0
        self.spent += 1
        return self.arm, self.order[self.arm][pulls[self.arm]]


def bound(mean, level, end):
    """The q farthest from the mean towards `end` with d(mean, q) <= level."""
    inside, outside = mean, end
    for _ in range(60):
        q = (inside + outside) / 2
        inside, outside = (q, outside) if divergence(mean, q) <= level else (inside, q)
    return outside


def read_once(drawn, streams, row, *shape):
    """A round's draw of one row; the first row that asks for a shape reads it for all."""
    if shape not in drawn:
        drawn[shape] = streams.uniform(*shape)
    return drawn[shape][row]


CASES = {
    "random": (SlowRandom, {}, {}),
    "rucb": (SlowRUCB, {}, {}),
    "rucb to the letter": (SlowRUCB, {"informed": False}, {"informed": False}),
    "rmed1": (SlowRMED1, {}, {}),
    "rmed2": (SlowRMED2, {}, {}),
    "rmed2fh": (SlowRMED2, {"fixed_horizon": True}, {}),
    "dts": (SlowDTS, {}, {}),
    "dts_plus": (SlowDTS, {"plus": True}, {}),
    "sparring": (SlowSparring, {}, {}),
    "multisbm": (SlowMultiSBM, {}, {}),
    "btm": (SlowBeatTheMean, {}, {}),
    "interleaved_filter": (SlowInterleavedFilter, {}, {}),
    "savage": (SlowSavage, {}, {}),
    "winner_stays": (SlowWinnerStays, {}, {}),
    "winner_stays for weak regret": (SlowWinnerStays, {"regret": "weak"}, {"regret": "weak"}),
    "versatile": (SlowVersatile, {}, {}),
    "mergerucb": (SlowMergeRUCB, {}, {}),
    "mergerucb in pairs": (SlowMergeRUCB, {"partition": 2}, {"partition": 2}),
    "ccb": (SlowCCB, {}, {}),
    "scb": (SlowSCB, {}, {}),
    "scb in turns of five": (SlowSCB, {"patience": 5}, {"patience": 5}),
    "scb with pulls played to their end": (SlowSCB, {"patience": None}, {"patience": None}),
}
LONG = {"btm": 700, "interleaved_filter": 900, "savage": 900, "mergerucb": 600}


@pytest.mark.parametrize("kind", MATRICES)
@pytest.mark.parametrize("case", CASES)
def test_chooses_what_a_slow_one_chooses(case, kind):
    reference, slow_settings, settings = CASES[case]
    name, matrix = case.split()[0], MATRICES[kind]
    if name in ("interleaved_filter", "savage", "btm"):
        matrix = np.clip(0.5 + 1.6 * (matrix - 0.5), 0.02, 0.98)  # clear enough for eliminations
    if name == "scb":
        matrix = np.where(matrix > 0.5, 0.99, np.where(matrix < 0.5, 0.01, 0.5))[:3, :3]
    num_arms, horizon = len(matrix), LONG.get(name, 250)
    env = gymnasium.make_vec("duelenv/MatrixDuel-v0", num_envs=ROWS, matrix=matrix, horizon=horizon)
    agent = duelenv.agents.make(name, env, seed=5, **settings)
    order = RowStreams(5, f"agents/{name}/order", ROWS).uniform(num_arms).argsort(axis=1)
    streams = RowStreams(5, f"agents/{name}", ROWS)
    slow = [reference(num_arms, horizon, **slow_settings) for _ in range(ROWS)]
    observation, _ = env.reset(seed=3)
    for step in range(horizon):
        actions = agent.act(observation)
        drawn: dict[tuple[int, ...], object] = {}
        for row in range(ROWS):
            slow[row].draw = partial(read_once, drawn, streams, row)
        expected = [[order[row][arm] for arm in slow[row].act()] for row in range(ROWS)]
        assert actions.tolist() == expected, f"round {step + 1}"
        observation, labels, *_ = env.step(actions)
        labels = labels.copy()
        if step % 7 == 3:
            labels[step % ROWS] = 0.5  # a declared tie
        agent.update(observation, actions, labels)
        place = order.argsort(axis=1)
        for row in range(ROWS):
            i, j = place[row, actions[row]]
            slow[row].learn(int(i), int(j), labels[row])
    if kind == "transitive":  # what the comparison has to have seen
        if name in ("btm", "savage", "interleaved_filter"):
            assert not agent._active.all(axis=1).any()
        if name == "mergerucb":
            assert (agent._batch == -1).any(axis=1).all() and (agent._number == 1).all()
        if name == "scb":
            assert (agent._winner >= 0).all()


@pytest.mark.parametrize("name", ["random", "rucb", "dts"])
def test_rows_of_a_replicate_choose_from_one_state(name):
    """With batch = 3 each row chooses as a slow one would that has the counts of all three before the round."""
    matrix, batch, horizon = MATRICES["transitive"], 3, 60
    env = gymnasium.make_vec("duelenv/MatrixDuel-v0", num_envs=6, batch=batch, matrix=matrix, horizon=horizon)
    agent = duelenv.agents.make(name, env, seed=5)
    order = RowStreams(5, f"agents/{name}/order", 2).uniform(5).argsort(axis=1)
    streams = RowStreams(5, f"agents/{name}", 6)
    slow = [CASES[name][0](5, horizon) for _ in range(6)]
    for row in range(6):
        slow[row].wins = slow[row // batch * batch].wins
    observation, _ = env.reset(seed=3)
    for step in range(horizon):
        actions = agent.act(observation)
        drawn: dict[tuple[int, ...], object] = {}
        for row in range(6):
            slow[row].draw = partial(read_once, drawn, streams, row)
            slow[row].t = step * batch
            chosen = [order[row // batch][arm] for arm in slow[row].act()]
            assert actions[row].tolist() == chosen, f"round {step + 1}, row {row}"
        observation, labels, *_ = env.step(actions)
        agent.update(observation, actions, labels)
        for row in range(6):
            i, j = order.argsort(axis=1)[row // batch, actions[row]]
            slow[row].learn(int(i), int(j), labels[row])
