"""Deep-ensemble belief: E small networks over frozen features, each one plausible utility, trained side by side.

For utilities that are not linear in the features (SEA, arXiv 2411.01493, section 4; randomised priors: Osband et al.
2018, arXiv 1806.03335; anchoring: Pearce et al. 2020, arXiv 1810.05546). Features must not drift: take them from a
frozen model. One replicate only; for thousands of seeds at once use `linear_logistic`. Importing this loads torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from duelenv.agents.beliefs.base import labelled
from duelenv.agents.beliefs.networks import Layers, Memory, forward
from duelenv.agents.beliefs.standardiser import Standardiser
from duelenv.agents.divergence import Diverged, finite
from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.ground.randomness import RowStreams, stream

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class DeepEnsembleSettings:
    """Settings of `DeepEnsemble`.

    The defaults were chosen on about 1000 labels of Bradley-Terry utilities of deviation 2 over 16 and 32 normal
    features, linear and two-layer: by held-out log-loss on random pairs and by regret under Thompson sampling.
    """

    heads: int = 20
    """Number of networks E; the posterior has that many support points per row."""

    trunks: int | None = None
    """First layers T, a divisor of `heads`: each is learnt by E / T heads, which differ above it (Osband et al. 2016,
    arXiv 1602.04621, share one); as many random ones, which stay as they are, serve the prior networks. What
    grows with the number of features then costs what it costs for T heads. None gives every head a first layer of its
    own, as T = E does. `docs/alignment.md` has figures: on ten trunks 100 heads know what they know as well as
    independent ones, on a single one they agree too much."""

    hidden: tuple[int, ...] = (64,)
    """Widths of the hidden layers, ReLU between them."""

    prior_scale: float = 0.5
    """Factor on each head's fixed random prior network, whose output has deviation of about 1; 0 switches it off."""

    prior_precision: float = 1.0
    """Strength of the pull of each head to its own initial weights, in units of the inverse variance they were drawn
    with: the penalty of a head is prior_precision * sum((w - w0)^2 / variance) / 2, as from a Gaussian prior, against
    the summed log-loss of all labels."""

    bootstrap: Literal["exponential", "double_or_nothing", "none"] = "none"
    """Weight of each label in each head, drawn once with mean 1: Exp(1) (Bayesian bootstrap), 0 or 2, or always 1. The
    bootstrap widens the posterior; priors and anchors alone were wide enough where the defaults were chosen."""

    belief_learning_rate: float = 3e-3
    """Adam's step."""

    minibatches: int = 5
    """Gradient steps per update."""

    minibatch_size: int = 64
    """Labels per gradient step, drawn from all labels so far with replacement."""

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("heads", "minibatches", "minibatch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; set it to 1 or more")
        if any(width < 1 for width in self.hidden):
            raise UserError(f"hidden is {self.hidden}; give widths of 1 or more, or none for linear heads")
        if self.trunks is not None:
            checks.integer("trunks", self.trunks, low=1)
            if self.heads % self.trunks:
                raise UserError(
                    f"trunks={self.trunks} cannot serve as many of {self.heads} heads each; set it to a divisor of "
                    "heads, or to None, which gives every head its own first layer"
                )
            if not self.hidden:
                raise UserError(f"trunks={self.trunks} with hidden=() leaves no layer to share; give a width, or None")
        for name in ("prior_scale", "prior_precision"):
            checks.number(name, getattr(self, name), low=0.0)
        checks.number("belief_learning_rate", self.belief_learning_rate, above=0.0)
        checks.one_of("bootstrap", self.bootstrap, ("exponential", "double_or_nothing", "none"))


class DeepEnsemble:
    """E networks f_e(phi) + prior_scale * p_e(phi); p_e is random and fixed, f_e is trained with Bradley-Terry loss.

    Features are standardised by the mean and deviation of the first 256 vectors that `sample` or `update` meets.

    Args:
        dim: Number of features d.
        batch: Number of rows N that `sample` is asked for.
        root: Root integer of the initial weights, bootstrap weights, minibatches and orders of heads.
        settings: See `DeepEnsembleSettings`.
        device: Where the networks live, for example "cpu" or "cuda".
    """

    def __init__(
        self,
        dim: int,
        *,
        batch: int,
        root: int,
        settings: DeepEnsembleSettings | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.settings = settings or DeepEnsembleSettings()
        self.dim = dim
        self.device = torch.device(device)
        self._trunks = self.settings.trunks or self.settings.heads
        self._streams = RowStreams(root, "beliefs/ensemble/order", batch)
        self._generator = stream(root, "beliefs/ensemble/training")
        initial = stream(root, "beliefs/ensemble/initial")
        self._anchor = self._random_layers(initial)
        self._prior = self._random_layers(initial)
        self._layers = [layer.clone().requires_grad_() for layer in self._anchor]
        self._memory = Memory(self._layers)
        self._optimizer = torch.optim.Adam(self._layers, lr=self.settings.belief_learning_rate, fused=True)
        # A step of Adam moves a weight by about its rate: below this no run is long enough to leave the numbers.
        self._leaps = self.settings.belief_learning_rate > 1.0
        self._standardiser = Standardiser(dim)
        self._take_standards()
        self._replay = _Replay(dim, self.settings.heads, self.device)

    @property
    def num_labels(self) -> int:
        """Number of labels learnt from so far."""
        return self._replay.size

    def sample(self, features: Floats, num_samples: int) -> NDArray[np.float32]:
        """Return joint utility draws [S, N, K] for features [N, K, d].

        A draw is a head. Every row goes through the heads in a random order of its own, without repetition until all
        have been used.
        """
        if len(features) != self._streams.rows:
            raise UserError(f"sample was given {len(features)} rows; give the {self._streams.rows} of the batch")
        x = self._tensor(features)  # (N, K, d)
        self._observe(x)
        heads = self.settings.heads
        passes = -(-num_samples // heads)
        order = self._streams.uniform(passes, heads).argsort(-1)  # (N, passes, E)
        order = order.reshape(len(order), -1)[:, :num_samples].T  # (S, N)
        drawn, places = np.unique(order, return_inverse=True)
        if 2 * len(drawn) > heads or self._trunks < heads:  # taking them out would cost as much as computing the others
            drawn, places = np.arange(heads), order
        utilities = self._utilities(x, drawn).cpu().numpy()
        return utilities[places.reshape(order.shape), np.arange(order.shape[1])]

    def mean(self, features: Floats) -> NDArray[np.float32]:
        """Return the mean utility over the heads [N, K] for features [N, K, d]."""
        return self._utilities(self._tensor(features)).mean(0).cpu().numpy()

    def update(self, first: Floats, second: Floats, labels: Floats) -> dict[str, float]:
        """Store the labelled rows and take `minibatches` gradient steps on all labels so far.

        Args:
            first: Features of the first members [N, d]; any number of rows.
            second: Features of the second members [N, d].
            labels: [N], 1, 0, anything between as a soft target, NaN for none.

        Returns:
            `labels`: how many of the rows had one; `log_loss`: mean training loss of the last minibatch over its
            bootstrap weights, in nats (NaN while there is no label at all).

        Raises:
            UserError: if a label is outside [0, 1], the shapes do not fit, or a feature is not finite.
            Diverged: a step's loss is not finite, or its outcome. It was not taken; the labels are stored.
        """
        known = labelled(first, second, labels)
        count = int(known.sum())
        if count:
            pairs = torch.stack([self._tensor(first[known]), self._tensor(second[known])], dim=1)  # (B, 2, d)
            self._observe(pairs)
            weights = _bootstrap_weights(self._generator, (count, self.settings.heads), self.settings.bootstrap)
            y = torch.as_tensor(labels[known], dtype=torch.float32, device=self.device)
            self._replay.append(pairs, y, weights.to(self.device), self._prior_gap(pairs))
        loss = self._train() if self._replay.size else float("nan")
        return {"labels": float(count), "log_loss": loss}

    def state_dict(self) -> dict[str, Any]:
        """Return networks, optimiser, replay, normalisation and random states as plain arrays and numbers."""
        return self._moving() | {
            "anchor": [_array(layer) for layer in self._anchor],
            "prior": [_array(layer) for layer in self._prior],
            "standardiser": self._standardiser.state_dict(),
            "replay": self._replay.state_dict(),
            "streams": self._streams.state_dict(),
            "generator": _copied(self._generator.bit_generator.state),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict` of an ensemble with the same arguments.

        Raises:
            UserError: if the saved networks have another shape.
        """
        saved, own = [np.shape(w) for w in state["layers"]], [tuple(w.shape) for w in self._layers]
        if saved != own:
            raise UserError(f"the saved ensemble has layers {saved}, this one {own}; make it with the same settings")
        with torch.no_grad():
            for name, layers in (("anchor", self._anchor), ("prior", self._prior)):
                for layer, value in zip(layers, state[name], strict=True):
                    layer.copy_(torch.as_tensor(value))
        self._move(state)
        self._standardiser.load_state_dict(state["standardiser"])
        self._take_standards()
        self._replay = _Replay(self.dim, self.settings.heads, self.device)
        self._replay.load_state_dict(state["replay"])
        self._streams.load_state_dict(state["streams"])
        self._generator.bit_generator.state = _copied(state["generator"])

    def _tensor(self, features: Floats) -> Tensor:
        if features.shape[-1] != self.dim:
            raise UserError(f"features have shape {features.shape}; the last axis must be {self.dim}")
        return torch.tensor(features, dtype=torch.float32, device=self.device)

    def _random_layers(self, generator: np.random.Generator) -> Layers:
        """Draw He-scaled weights, so that outputs have deviation of about 1 at any depth; zero biases."""
        layers: Layers = []
        for depth, (fan_in, fan_out, variance) in enumerate(self._sizes()):
            networks = self._trunks if depth == 0 else self.settings.heads
            weight = generator.standard_normal((networks, fan_in, fan_out), np.float32)
            layers.append(torch.from_numpy(weight).mul_(variance**0.5).to(self.device))
            layers.append(torch.zeros(networks, 1, fan_out, device=self.device))
        return layers

    def _sizes(self) -> list[tuple[int, int, float]]:
        """List (inputs, outputs, initial variance) by layer; a ReLU halves the second moment of what it is given."""
        widths = [self.dim, *self.settings.hidden, 1]
        return [
            (fan_in, fan_out, (1.0 if depth == 0 else 2.0) / fan_in)
            for depth, (fan_in, fan_out) in enumerate(pairwise(widths))
        ]

    def _observe(self, features: Tensor) -> None:
        """Let the standardiser see features; while it still moves, so do the prior's outputs on the stored duels."""
        if not self._standardiser.observe(features.reshape(-1, self.dim).cpu().numpy()):
            return
        self._take_standards()
        if self._replay.size:
            self._replay.prior_gap[: self._replay.size] = self._prior_gap(self._replay.pairs[: self._replay.size])

    def _take_standards(self) -> None:
        self._shift, self._scale = (
            torch.as_tensor(values, dtype=torch.float32, device=self.device)
            for values in (self._standardiser.mean, self._standardiser.scale)
        )

    def _standardised(self, features: Tensor) -> Tensor:
        """Standardise features [..., d] into [M, d]."""
        return (features.reshape(-1, self.dim) - self._shift) * self._scale

    @torch.no_grad()
    def _prior_gap(self, pairs: Tensor) -> Tensor:
        """Subtract the scaled prior utilities of pairs [B, 2, d]: [B, E]. Kept, as it never changes again."""
        output = forward(self._prior, self._standardised(pairs), self._memory)  # (E, 2 B)
        output = output.reshape(self.settings.heads, -1, 2)
        return self.settings.prior_scale * (output[..., 0] - output[..., 1]).T

    @torch.no_grad()
    def _utilities(self, features: Tensor, heads: NDArray[np.int64] | None = None) -> Tensor:
        """Apply these heads, or all where trunks are shared, to features [N, K, d]: [E, N, K]."""
        x = self._standardised(features)
        layers, prior = self._layers, self._prior
        if heads is not None and len(heads) < self.settings.heads:
            rows = torch.from_numpy(heads).to(self.device)
            layers, prior = ([layer[rows] for layer in networks] for networks in (layers, prior))
        output = forward(layers, x, self._memory) + self.settings.prior_scale * forward(prior, x, self._memory)
        return output.reshape(len(output), *features.shape[:2])

    def _train(self) -> float:
        replay, settings = self._replay, self.settings
        shape = (settings.minibatches, settings.minibatch_size)
        for drawn in self._generator.integers(replay.size, size=shape):
            log_loss, weights = self._step(drawn)
        return float(log_loss.sum() / weights.mean(1).sum().clamp_min(1e-12))

    def _step(self, drawn: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Take one gradient step.

        Args:
            drawn: Labels of the minibatch [B]; each is computed once, however often it was drawn.

        Returns:
            Log-loss per head [E] before the step, and the weights [E, U] of the U distinct labels, whose mean is that
            over the minibatch.
        """
        replay = self._replay
        distinct, counts = np.unique(drawn, return_counts=True)
        rows = torch.from_numpy(distinct).to(self.device)
        share = torch.as_tensor(counts * (len(rows) / len(drawn)), dtype=torch.float32, device=self.device)
        weights = replay.weights[rows].T * share  # (E, U)
        self._pull_to_anchor()
        for layer, gradient in zip(self._layers, self._memory.gradients, strict=True):
            layer.grad = gradient
        log_loss = self._log_loss(
            replay.pairs[rows], replay.labels[rows], weights, replay.prior_gap[rows].T, memory=self._memory
        )
        log_loss.sum().backward()  # heads share trunks at most, whose gradients add up: others are each head's own
        loss = float(log_loss.detach().sum())
        if not finite(loss):
            raise self._diverged(loss, len(drawn))
        before = self._moving() if self._leaps else None
        self._optimizer.step()
        if before is not None and not bool(self._utilities(replay.pairs[rows]).isfinite().all()):
            self._move(before)
            raise self._diverged(loss, len(drawn), afterwards="utilities")
        return log_loss.detach(), weights

    def _diverged(self, loss: float, drawn: int, *, afterwards: str = "") -> Diverged:
        error = Diverged(
            "the belief",
            step=self._steps() + 1,
            loss=loss / self.settings.heads,
            gradient_norm=None,
            advice=f"set a smaller belief_learning_rate (here {self.settings.belief_learning_rate:g})",
            afterwards=afterwards,
        )
        error.batch = f"{drawn} draws from {self._replay.size} labelled duels"
        return error

    def _moving(self) -> dict[str, Any]:
        """Return copies of what a step moves."""
        adam = self._optimizer.state_dict()["state"]
        return {
            "layers": [_array(layer) for layer in self._layers],
            "adam": {str(i): {key: _array(value) for key, value in adam[i].items()} for i in adam},
        }

    def _move(self, state: Mapping[str, Any]) -> None:
        """Put that back."""
        with torch.no_grad():
            for layer, value in zip(self._layers, state["layers"], strict=True):
                layer.copy_(torch.as_tensor(value))
        adam = self._optimizer.state_dict()
        adam["state"] = {
            int(i): {key: torch.tensor(value, device=self.device) for key, value in moments.items()}
            for i, moments in state["adam"].items()
        }
        self._optimizer.load_state_dict(adam)

    def _steps(self) -> int:
        """Count those that were taken, as the optimiser does."""
        state = self._optimizer.state.get(self._layers[0])
        return int(state["step"]) if state else 0

    def _log_loss(
        self,
        pairs: Tensor,
        labels: Tensor,
        weights: Tensor,
        prior_gap: Tensor,
        *,
        memory: Memory | None = None,
    ) -> Tensor:
        """Find weighted Bradley-Terry losses per head [E] of pairs [B, 2, d], labels [B], weights and prior_gap [E, B].

        With `memory`, `backward` adds the gradients of the layers to those there, and the next call overwrites what it
        needs for that.
        """
        output = forward(self._layers, self._standardised(pairs), memory)  # (E, 2 B)
        output = output.reshape(self.settings.heads, -1, 2)
        gap = output[..., 0] - output[..., 1] + prior_gap  # (E, B)
        assert gap.shape == weights.shape == prior_gap.shape == (self.settings.heads, len(labels))
        losses = binary_cross_entropy_with_logits(gap, labels.expand_as(gap), weight=weights, reduction="none")
        return losses.mean(1)

    def _distance_to_anchor(self) -> Tensor:
        """Compute the penalty per head [E]: prior_precision / 2 times squared distance in prior deviations, summed."""
        distance = torch.zeros(self.settings.heads, device=self.device)
        for layer, anchor, precision in zip(self._layers, self._anchor, self._precisions(), strict=True):
            squared = ((layer - anchor) ** 2).sum((1, 2))
            distance = distance + precision / 2 * squared.repeat_interleave(self.settings.heads // len(layer))
        return distance

    @torch.no_grad()
    def _pull_to_anchor(self) -> None:
        """Set the gradients in `_memory` to those of all heads' penalties, divided by the number of labels.

        Every head is charged with the distance of the trunk that it stands on, as its loss pulls there too.
        """
        for gradient, layer, anchor, precision in zip(
            self._memory.gradients, self._layers, self._anchor, self._precisions(), strict=True
        ):
            charged = self.settings.heads / len(layer)
            torch.sub(layer, anchor, out=gradient).mul_(charged * precision / self._replay.size)

    def _precisions(self) -> list[float]:
        """Compute the strength of the pull to the anchor, one for each of the layers; a bias's is its weight's."""
        return [self.settings.prior_precision / variance for *_, variance in self._sizes() for _ in range(2)]


class _Replay:
    """All labelled duels, in buffers that double: 4 (2 d + 2 E + 1) bytes a label."""

    _NAMES = ("pairs", "labels", "weights", "prior_gap")

    def __init__(self, dim: int, heads: int, device: torch.device) -> None:
        self.size = 0
        self.pairs = torch.zeros(256, 2, dim, device=device)
        self.labels = torch.zeros(256, device=device)
        self.weights = torch.zeros(256, heads, device=device)
        self.prior_gap = torch.zeros(256, heads, device=device)

    def append(self, pairs: Tensor, labels: Tensor, weights: Tensor, prior_gap: Tensor) -> None:
        """Add pairs [B, 2, d], labels [B], weights [B, E] and prior_gap [B, E]."""
        size = self.size + len(labels)
        for name, value in zip(self._NAMES, (pairs, labels, weights, prior_gap), strict=True):
            buffer: Tensor = getattr(self, name)
            if size > len(buffer):
                larger = buffer.new_zeros(max(size, 2 * len(buffer)), *buffer.shape[1:])
                larger[: self.size] = buffer[: self.size]
                setattr(self, name, larger)
                buffer = larger
            buffer[self.size : size] = value
        self.size = size

    def state_dict(self) -> dict[str, Any]:
        return {name: _array(getattr(self, name)[: self.size]) for name in self._NAMES}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.append(*(torch.as_tensor(state[name]) for name in self._NAMES))


def _bootstrap_weights(generator: np.random.Generator, shape: tuple[int, int], kind: str) -> Tensor:
    if kind == "exponential":
        return torch.from_numpy(generator.standard_exponential(shape, np.float32))
    if kind == "double_or_nothing":
        return torch.from_numpy(2.0 * (generator.random(shape, np.float32) < 0.5)).float()
    return torch.ones(shape)


def _array(tensor: Tensor) -> NDArray[Any]:
    return tensor.detach().cpu().numpy().copy()


def _copied(state: Any) -> Any:
    """Copy a nested dict of numbers, strings and arrays."""
    if isinstance(state, dict):
        return {key: _copied(value) for key, value in state.items()}
    return state.copy() if isinstance(state, np.ndarray) else state
