"""Those in which bandits of one arm each play each other: sparring, MultiSBM, Versatile-DB."""

from __future__ import annotations

import math

import numpy as np

from slow_karmed.replicate import Slow


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
