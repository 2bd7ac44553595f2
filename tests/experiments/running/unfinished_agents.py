"""Agents that somebody has not finished: each lacks something that a run calls, or is stopped by Python itself."""

import numpy as np

from duelenv.agents import Agent, register


class Bare:
    """Random pairs, written without the base class."""

    def __init__(self, view, without):
        self.view = view
        setattr(self, without, None)

    def act(self, observation):
        return np.tile([0, 1], (self.view.num_envs, 1))

    def update(self, observation, actions, labels, late=None):
        return {}

    def recommend(self, observation):
        return np.zeros(self.view.num_envs, np.int64)

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


class Begun(Agent):
    """Random pairs, with the base class, of which `_recommend` is missing."""

    def _act(self, observation):
        return np.tile([0, 1], (self.view.num_envs, 1))

    def _update(self, observation, actions, labels):
        return {}

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


@register("bare")
def build_bare(view, seed, settings):
    return Bare(view, "recommend")


@register("stateless")
def build_stateless(view, seed, settings):
    return Bare(view, "state_dict")


@register("begun")
def build_begun(view, seed, settings):
    return Begun(view)


@register("raises")
def build_raises(view, seed, settings):
    raise ZeroDivisionError("nothing to divide by")
