"""Those that look for a Copeland winner: CCB, SCB."""

from __future__ import annotations

import itertools
import math

import numpy as np

from slow_karmed.replicate import Slow, divergence, pick, pick_largest


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
