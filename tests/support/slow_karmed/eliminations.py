"""Those that strike arms out: BTM, Interleaved Filter, SAVAGE, Winner Stays, MergeRUCB."""

from __future__ import annotations

import math

import numpy as np

from slow_karmed.replicate import Slow, pick


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
