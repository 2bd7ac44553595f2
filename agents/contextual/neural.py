"""Neural dueling bandits, UCB and Thompson (Verma et al. 2024, arXiv 2407.17112): a network's utility and its widths.

Rule. A network h with two hidden layers of 50 rectified units is fitted to all labels so far. The first candidate is
its favourite, i = argmax h(phi_i). The second, with g the features of the last layer divided by sqrt(width) and V =
lambda I + sum (g_i - g_j)(g_i - g_j)':

- `neural_ucb`: j = argmax_j h(phi_j) + beta |g_j - g_i|_{V^-1};
- `neural_ts`: j = argmax_j of independent draws N(h(phi_j), beta^2 |g_j - g_i|^2_{V^-1}), the favourite's own being
  h(phi_i).

The paper takes the gradient by all weights for g; the last layer is its cheap form (neural-linear). A duel enters V
with the features it had when it was played, by a rank-one term: building V anew from every label after each training
was tried, costs time that grows with the labels, and did not lower the regret.

Training. Every `train_every` rounds' worth of labels, `steps` of Adam on minibatches of the labels kept, with decay
towards the start. The labels kept are the last `capacity` of each replicate, 4 (2 d + 2) bytes each. A round takes the
same time however many there are. One network per replicate, all trained together by batched products.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from duelenv.agents.base import Agent, Metrics, SettingsReader, register
from duelenv.agents.contextual.agent import ask_all, feature_dim, small_numbers
from duelenv.agents.contextual.design import Arms, Float32, Geometry
from duelenv.agents.roles import equal_texts
from duelenv.core import AgentView, Labels, Observation, Pairs
from duelenv.ground import checks
from duelenv.ground.randomness import RowStreams

_ADAM_DECAY = (0.9, 0.999)
_ADAM_FLOOR = np.float32(1e-8)


@dataclass(frozen=True)
class NeuralSettings:
    """Settings of the neural rules.

    Attributes:
        beta: Factor on the widths, not negative.
        prior_precision: lambda of V, positive.
        hidden: Units of each of the two hidden layers.
        learning_rate: Of Adam, positive.
        weight_decay: Pull of each weight to its start, not negative, against the mean loss of a minibatch.
        train_every: Rounds' worth of labels between two trainings.
        steps: Adam steps of one training.
        minibatch: Labels in each of them.
        capacity: Labels kept of each replicate.
    """

    beta: float = 3.0
    prior_precision: float = 1.0
    hidden: int = 50
    learning_rate: float = 1e-2
    weight_decay: float = 1e-3
    train_every: int = 20
    steps: int = 10
    minibatch: int = 64
    capacity: int = 4096

    def __post_init__(self) -> None:
        for name in ("beta", "weight_decay"):
            checks.number(name, getattr(self, name), low=0.0)
        for name in ("prior_precision", "learning_rate"):
            checks.number(name, getattr(self, name), above=0.0)
        for name in ("hidden", "train_every", "steps", "minibatch", "capacity"):
            checks.integer(name, getattr(self, name), low=1)


class Networks:
    """R networks d - m - m - 1 with rectified units, trained together on preference labels.

    Args:
        dim: d.
        replicates: R.
        root: Root of the initial weights.
        settings: Of the networks.
    """

    def __init__(self, dim: int, replicates: int, root: int, settings: NeuralSettings) -> None:
        self.settings = settings
        width = settings.hidden
        self.dim = dim
        shapes = {"w1": (dim, width), "b1": (1, width), "w2": (width, width), "b2": (1, width), "w3": (width, 1)}
        self.weights: dict[str, Float32] = {}
        for name, shape in shapes.items():
            streams = RowStreams(root, f"agents/neural/{name}", replicates)
            gain = 0.0 if name.startswith("b") else np.sqrt((1.0 if name == "w3" else 2.0) / shape[0])
            self.weights[name] = np.float32(gain) * streams.normal(*shape, dtype=np.float32)
        self._start = {name: weight.copy() for name, weight in self.weights.items()}
        self._moments = {name: np.zeros((2, *weight.shape), np.float32) for name, weight in self.weights.items()}
        self._steps = 0

    def last_layer(self, x: Float32) -> Float32:
        """Return the features of the last layer, [R, M, m] for x [R, M, d]."""
        w = self.weights
        hidden = np.maximum(x @ w["w1"] + w["b1"], 0.0)
        features: Float32 = np.maximum(hidden @ w["w2"] + w["b2"], 0.0)
        return features

    def utility(self, last: Float32) -> Float32:
        """Return h, [R, M], from `last_layer`."""
        utility: Float32 = (last @ self.weights["w3"])[..., 0]
        return utility

    def gradients(self, first: Float32, second: Float32, labels: Float32, counts: Float32) -> dict[str, Float32]:
        """Return the gradients of sum counts * log-loss, for pairs [R, M, d], labels and counts [R, M]."""
        w, num = self.weights, first.shape[1]
        x = np.concatenate([first, second], axis=1)
        before1 = x @ w["w1"] + w["b1"]
        hidden1 = np.maximum(before1, 0.0)
        before2 = hidden1 @ w["w2"] + w["b2"]
        hidden2 = np.maximum(before2, 0.0)
        utility = self.utility(hidden2)
        residual = counts * (expit(utility[:, :num] - utility[:, num:]) - labels)
        up = np.concatenate([residual, -residual], axis=1)[..., None]  # (R, 2 M, 1)
        down2 = (up @ w["w3"].swapaxes(1, 2)) * (before2 > 0)
        down1 = (down2 @ w["w2"].swapaxes(1, 2)) * (before1 > 0)
        return {
            "w1": x.swapaxes(1, 2) @ down1,
            "b1": down1.sum(axis=1, keepdims=True),
            "w2": hidden1.swapaxes(1, 2) @ down2,
            "b2": down2.sum(axis=1, keepdims=True),
            "w3": hidden2.swapaxes(1, 2) @ up,
        }

    def step(self, gradients: dict[str, Float32]) -> None:
        """Take one Adam step, with the decay to the start added to the gradients."""
        self._steps += 1
        settings = self.settings
        first, second = (1.0 - decay**self._steps for decay in _ADAM_DECAY)
        rate = np.float32(settings.learning_rate * np.sqrt(second) / first)
        for name, gradient in gradients.items():
            weight, moments = self.weights[name], self._moments[name]
            total = gradient + np.float32(settings.weight_decay) * (weight - self._start[name])
            for moment, value, decay in zip(moments, (total, total * total), _ADAM_DECAY, strict=True):
                moment *= np.float32(decay)
                moment += np.float32(1.0 - decay) * value
            weight -= rate * moments[0] / (np.sqrt(moments[1]) + _ADAM_FLOOR)

    def state_dict(self) -> dict[str, Any]:
        """Return weights, Adam's moments and its step."""
        return {
            "weights": {name: weight.copy() for name, weight in self.weights.items()},
            "moments": {name: moments.copy() for name, moments in self._moments.items()},
            "steps": self._steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict` of networks with the same arguments."""
        for name in self.weights:
            self.weights[name][...] = state["weights"][name]
            self._moments[name][...] = state["moments"][name]
        self._steps = int(state["steps"])


class NeuralDuel(Agent):
    """See the module.

    Args:
        view: What the agent may know of its environment.
        seed: Root of the agent's streams.
        name: "neural_ucb" or "neural_ts".
        settings: Of the networks and the rule.

    Raises:
        UserError: A world without features or with a policy model.
    """

    def __init__(self, view: AgentView, seed: int, name: str, settings: NeuralSettings) -> None:
        super().__init__(view)
        self.settings = settings
        self.dim = feature_dim(view, name)
        replicates = view.replicates
        self.networks = Networks(self.dim, replicates, seed, settings)
        self.round = 0  # calls with a label
        self._num_labels = 0
        self._trainings = 0
        self.inverse: Float32 = np.tile(
            np.eye(settings.hidden, dtype=np.float32) / np.float32(settings.prior_precision), (replicates, 1, 1)
        )
        self._samples = name == "neural_ts"
        self._streams = RowStreams(seed, f"agents/{name}", view.num_envs)
        self._replay = RowStreams(seed, f"agents/{name}/replay", replicates)
        self._ties = small_numbers(view, seed, name)
        self._all_rows = np.arange(view.num_envs)
        # A ring of the last labels; a row of a batch without a label takes a slot with count 0.
        # Late labels come in calls of their own, hence the 2.
        slots = min(settings.capacity, 2 * view.horizon * view.batch)
        self._slots = max(slots // view.batch, 1) * view.batch
        self._pairs = np.zeros((replicates, self._slots, 2, self.dim), np.float32)
        self._labels = np.zeros((replicates, self._slots), np.float32)
        self._counts = np.zeros((replicates, self._slots), np.float32)
        self._scale = np.float32(settings.hidden**-0.5)

    def _geometry(self, features: NDArray[Any]) -> Geometry:
        """Return utilities and last-layer widths of features [N, K, d]."""
        rows, arms = features.shape[:2]
        x = np.asarray(features, np.float32).reshape(self.view.replicates, -1, self.dim)
        last = self.networks.last_layer(x)
        mean: Float32 = self.networks.utility(last).reshape(rows, arms) + self._ties
        relative: Float32 = last.reshape(rows, arms, -1) * self._scale
        left = (relative.reshape(last.shape) @ self.inverse).reshape(relative.shape)
        return Geometry(mean, left, relative, self._ties)

    def _act(self, observation: Observation) -> NDArray[np.int64]:
        geometry = self._geometry(observation["features"])
        first = geometry.mean.argmax(axis=1)
        scores = geometry.widths_to(first)
        scores *= np.float32(self.settings.beta)
        if self._samples:
            scores *= self._streams.normal(self.view.num_candidates, dtype=np.float32)
        scores += geometry.mean
        groups = equal_texts(self.view, observation)
        return ask_all(self.view, first, scores.argmax(axis=1), lambda: geometry.mean, groups)

    def _update(self, observation: Observation, actions: Pairs, labels: Labels) -> Metrics:
        known = ~np.isnan(labels)
        if not known.any():
            return {"labels": 0.0}
        features = observation["features"]
        replicates, batch = self.view.replicates, self.view.batch
        start = self.round * batch % self._slots
        place = slice(start, start + batch)
        pairs = np.asarray(features[self._all_rows[:, None], actions[:, :2]], np.float32)
        pairs[~known] = 0.0
        self._pairs[:, place] = pairs.reshape(replicates, batch, 2, self.dim)
        self._labels[:, place] = np.where(known, labels, 0.5).reshape(replicates, batch)
        self._counts[:, place] = known.reshape(replicates, batch)
        self.round += 1
        self._num_labels += int(known.sum())
        self._add(self._pairs[:, place], self._counts[:, place])
        # As many rounds as the labels are worth: calls would count twice what comes late.
        trainings = self._num_labels // (self.settings.train_every * self.view.num_envs)
        if trainings > self._trainings:
            self._trainings = trainings
            self._train()
        return {"labels": float(known.sum())}

    def _add(self, pairs: Float32, counts: Float32) -> None:
        """Let V learn of duels [R, B, 2, d], by Sherman and Morrison."""
        replicates, batch = counts.shape
        last = self.networks.last_layer(pairs.reshape(replicates, batch * 2, self.dim)) * self._scale
        last = last.reshape(replicates, batch, 2, -1)
        z = (last[:, :, 0] - last[:, :, 1]) * counts[:, :, None]
        for row in range(batch):
            u = self.inverse @ z[:, row, :, None]
            factor = 1.0 / (1.0 + z[:, row, None] @ u)
            self.inverse -= (factor * u) * u.swapaxes(1, 2)

    def _train(self) -> None:
        """Fit the networks."""
        settings = self.settings
        filled = min(self.round * self.view.batch, self._slots)
        rows = np.arange(self.view.replicates)[:, None]
        for _ in range(settings.steps):
            chosen = (self._replay.uniform(settings.minibatch) * filled).astype(np.int64)
            pairs, counts = self._pairs[rows, chosen], self._counts[rows, chosen]
            counts = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
            gradients = self.networks.gradients(pairs[:, :, 0], pairs[:, :, 1], self._labels[rows, chosen], counts)
            self.networks.step(gradients)

    def _recommend(self, observation: Observation) -> Arms:
        return self._geometry(observation["features"]).mean.argmax(axis=1)

    def state_dict(self) -> dict[str, Any]:
        return {
            "networks": self.networks.state_dict(),
            "streams": self._streams.state_dict(),
            "replay": self._replay.state_dict(),
            "round": self.round,
            "num_labels": self._num_labels,
            "trainings": self._trainings,
            "inverse": self.inverse.copy(),
            "pairs": self._pairs.copy(),
            "labels": self._labels.copy(),
            "counts": self._counts.copy(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.networks.load_state_dict(state["networks"])
        self._streams.load_state_dict(state["streams"])
        self._replay.load_state_dict(state["replay"])
        self.round = int(state["round"])
        self._num_labels, self._trainings = int(state["num_labels"]), int(state["trainings"])
        self.inverse = np.array(state["inverse"], np.float32)
        self._pairs[...] = state["pairs"]
        self._labels[...] = state["labels"]
        self._counts[...] = state["counts"]


@register("neural_ucb")
def neural_ucb(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the neural dueling UCB agent."""
    return NeuralDuel(view, seed, "neural_ucb", settings.take(NeuralSettings))


@register("neural_ts")
def neural_ts(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the neural dueling Thompson sampling agent."""
    return NeuralDuel(view, seed, "neural_ts", settings.take(NeuralSettings))
