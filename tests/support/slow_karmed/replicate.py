"""What all slow ones share: win counts, bounds of a pair, and how ties are broken."""

from __future__ import annotations

import math

import numpy as np


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


def divergence(p, q=0.5):
    terms = [a * math.log(a / b) for a, b in ((p, q), (1 - p, 1 - q)) if a > 0]
    return sum(terms)
