"""Wrappers that disturb any oracle's preferences: noise, temperature, tie band, position bias.

They compose, and change what is answered, never what is true: the utility of the wrapped oracle
stays reachable through `duelenv.oracles.base.utility_of`, and regret is measured by it. Not for
randomness: a wrapper maps probabilities to probabilities.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.ground.registry import Registry
from duelenv.oracles.base import Oracle, Preferences, Unanswered, UtilityOracle, ask
from duelenv.oracles.sources import Answer, Request, Source, at_once_or_later, checked, collected


@dataclass(frozen=True)
class Wrapper(ABC):
    """An oracle made of another.

    Attributes:
        inner: the oracle that is asked.
    """

    inner: Oracle

    def __call__(self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str], /) -> Preferences:
        """Change the inner oracle's preferences of N duels."""
        try:
            return self.change(ask(self.inner, prompts, first, second))
        except Unanswered as error:
            raise error.changed(self.change) from error

    @abstractmethod
    def change(self, preferences: Preferences) -> Preferences:
        """Map the inner oracle's answer to this one's."""


@dataclass(frozen=True)
class Noise(Wrapper):
    """Swaps a decided answer with a fixed probability: P' = (1 - flip) P + flip P(second).

    Attributes:
        flip: probability of the swap, in [0, 1]; 0.5 makes every decided answer a coin, 1 reverses
            the oracle. Declared ties stay.
    """

    flip: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "flip", checks.number("noise", self.flip, low=0.0, high=1.0))

    def change(self, preferences: Preferences) -> Preferences:
        """Mix win and loss."""
        win = (1.0 - self.flip) * preferences.win + self.flip * preferences.lose
        return Preferences(win, preferences.tie)


@dataclass(frozen=True)
class Temperature(Wrapper):
    """Softens (above 1) or sharpens (below 1) the preferences.

    Over a utility oracle, utilities are divided by the temperature before the link. Over any other
    oracle the log-odds of a decided answer are divided, which is the same thing under the logistic
    link; a certain answer then stays certain. Declared ties keep their probability.

    Attributes:
        temperature: the divisor, greater than 0.
    """

    temperature: float

    def __post_init__(self) -> None:
        value = checks.number("temperature", self.temperature, above=0.0)
        object.__setattr__(self, "temperature", value)

    def __call__(self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str], /) -> Preferences:
        """Change the inner oracle's preferences of N duels."""
        if not isinstance(self.inner, UtilityOracle):
            return super().__call__(prompts, first, second)
        # From the utilities: a probability that has rounded to 1 has lost its log-odds.
        inner, temperature = self.inner, self.temperature
        return ask(
            lambda p, a, b: inner.preference(p, a, b, temperature=temperature),
            prompts,
            first,
            second,
        )

    def change(self, preferences: Preferences) -> Preferences:
        """Divide the log-odds."""
        return _decided(preferences, lambda log_odds: log_odds / self.temperature)


@dataclass(frozen=True)
class TieBand(Wrapper):
    """Declares a tie wherever the expected label is close to one half: |P - 1/2| < width.

    Attributes:
        width: half-width of the band in probability, in [0, 0.5]; 0 changes nothing.
    """

    width: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "width", checks.number("tie_band", self.width, low=0.0, high=0.5))

    def change(self, preferences: Preferences) -> Preferences:
        """Turn close answers into ties; NaN is not close to anything."""
        # Computed from the margin, which changes only its sign when the order is swapped.
        close = 0.5 * np.abs(preferences.win - preferences.lose) < self.width
        return Preferences(np.where(close, 0.0, preferences.win), np.where(close, 1.0, preferences.tie))


@dataclass(frozen=True)
class PositionBias(Wrapper):
    """Favours the response shown first: logit(bias) is added to the log-odds of a decided answer.

    Attributes:
        bias: what is added, in logits; negative favours the second. Declared ties keep their
            probability, and a certain answer stays certain.
    """

    bias: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "bias", checks.number("position_bias", self.bias))

    def change(self, preferences: Preferences) -> Preferences:
        """Shift the log-odds."""
        return _decided(preferences, lambda log_odds: log_odds + self.bias)


WRAPPERS: Registry[Callable[[Oracle, Any], Wrapper]] = Registry(
    "wrapper",
    {
        "temperature": Temperature,
        "position_bias": PositionBias,
        "tie_band": TieBand,
        "noise": Noise,
    },
    reserved=("price",),
)
"""Wrappers by the name of their setting, in the order in which `make` applies them: how sharply the annotator sees,
what the order does, where a tie is called, and the slip of the hand; then your own, as they were registered. Each is
made of the oracle and of what stands at its name in a config."""

register_wrapper = WRAPPERS.register


@dataclass(frozen=True)
class DisturbedSource:
    """A source that answers later, whose answers go through wrappers.

    Attributes:
        inner: Who is asked.
        wrapper: A wrapper around nothing in particular: only its `change` is used.
    """

    inner: Source
    wrapper: Wrapper

    def ask(self, requests: Sequence[Request], /) -> None:
        """Pass requests on."""
        self.inner.ask(requests)

    def collect(self) -> Iterator[Answer]:
        """Give the answers that are there, changed, one by one: a fault in the middle loses none before it.

        What is no answer is passed on for whoever collects to judge.
        """
        yield from self._changed(self.inner.collect())

    def collect_last(self) -> Iterator[Answer]:
        """Collect all that is open, where the source can wait for that."""
        yield from self._changed(collected(self.inner, last=True))

    def _changed(self, answers: Iterable[Answer]) -> Iterator[Answer]:
        for given in answers:
            try:
                answer = checked(given)
            except UserError:
                yield given
                continue
            changed = self.wrapper.change(Preferences(np.array([answer.win]), np.array([answer.tie])))
            yield Answer(answer.id, float(changed.win[0]), float(changed.tie[0]))


def wrapped(oracle: Oracle | Source, name: str, value: Any) -> Oracle | Source:
    """Put an oracle in the wrapper of a name, whether it answers at once or later.

    Raises:
        UserError: the name is unknown, the value is refused, or what is registered under the name makes no wrapper.
    """
    at_once, later = at_once_or_later(oracle)
    made = WRAPPERS[name](_nobody if at_once is None else at_once, value)
    if not isinstance(made, Wrapper):
        raise UserError(
            f"wrapper {name!r} made {type(made).__name__}, expected a Wrapper; derive it from "
            "duelenv.oracles.wrappers.Wrapper, with a method change(preferences)"
        )
    return made if later is None else DisturbedSource(later, made)


def _nobody(prompts: Sequence[str], first: Sequence[str], second: Sequence[str], /) -> NDArray[np.float64]:
    """Decline: the oracle of a wrapper that only changes what others answer."""
    return np.full(len(prompts), np.nan)


def _decided(
    preferences: Preferences,
    transform: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> Preferences:
    """Apply `transform` to the log-odds of win against loss, given that there is no tie."""
    decided = preferences.win + preferences.lose
    with np.errstate(divide="ignore", invalid="ignore"):
        log_odds = np.log(preferences.win) - np.log(preferences.lose)
    # A sure tie has no odds (0 / 0); its share of decided answers is 0 whatever stands here.
    log_odds = np.where(decided == 0.0, 0.0, log_odds)
    return Preferences(decided * special.expit(transform(log_odds)), preferences.tie)
