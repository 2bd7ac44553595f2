"""The oracle `crowd`: who of many annotators answers a duel, and what comes of it. Labels are drawn elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.oracles.base import Preferences, UtilityOracle, make
from duelenv.oracles.crowds.annotator import Annotator
from duelenv.oracles.crowds.population import population
from duelenv.oracles.crowds.votes import MOST_VOTES, counted, log_odds_of
from duelenv.oracles.services.home import Home
from duelenv.oracles.services.spending import Cost, Purse

AGGREGATIONS: Final = ("majority", "ability")
ANSWERS: Final = ("drawn", "population")


@dataclass(frozen=True)
class MeanUtility(UtilityOracle):
    """The mean of a crowd's utilities: what it wants as a whole, and what regret is measured by.

    Attributes:
        utilities: By name.
        weights: Mean weight of each over the annotators, by name.
    """

    utilities: Mapping[str, UtilityOracle]
    weights: Mapping[str, float]

    def utility(self, prompts: Sequence[str], responses: Sequence[str]) -> NDArray[np.float64]:
        """Sum the weighted utilities, float64 [N]."""
        total = np.zeros(len(responses))
        for name, weight in self.weights.items():
            total += weight * np.asarray(self.utilities[name].utility(prompts, responses), np.float64)
        return total

    def maximum(self, prompts: Sequence[str]) -> NDArray[np.float64] | None:
        """Find the largest utility, float64 [N]; None with several, whose best responses need not be one."""
        counting = {name: weight for name, weight in self.weights.items() if weight}
        if len(counting) != 1:
            return None
        ((name, weight),) = counting.items()
        most = self.utilities[name].maximum(prompts)
        return None if most is None or weight < 0.0 else weight * most


@dataclass(frozen=True)
class Crowd:
    """Annotators, some of whom answer each duel.

    Who they are is drawn by the seed and the texts, whatever their order: the same question has the same annotators
    again, and both orders of a pair have the same ones.

    Attributes:
        utilities: What annotators weigh, by name.
        annotators: Who they are.
        seed: Of who answers what.
        votes: How many different annotators answer each duel.
        aggregation: How their votes are counted: `majority`, or by `ability` (`Annotator.ability`, taken as known).
        answer: `drawn`, or `population` for the mean over all annotators who do not decline: the answer of somebody
            who is drawn anew whenever a duel is asked.
        purse: What they are paid from, before they are asked.
    """

    utilities: Mapping[str, UtilityOracle]
    annotators: Sequence[Annotator]
    seed: int = 0
    votes: int = 1
    aggregation: str = "majority"
    answer: str = "drawn"
    purse: Purse | None = None

    def __post_init__(self) -> None:
        checks.integer("votes", self.votes, low=1, high=min(MOST_VOTES, len(self.annotators)))
        checks.one_of("aggregation", self.aggregation, AGGREGATIONS)
        checks.one_of("answer", self.answer, ANSWERS)
        if self.answer == "population" and self.votes > 1:
            raise UserError(f"votes is {self.votes} with answer='population', which draws nobody; leave one out")

    @property
    def inner(self) -> MeanUtility:
        """The truth, for `utility_of`."""
        names = list(self.utilities)
        means = {
            name: float(np.mean([annotator.weights.get(name, 0.0) for annotator in self.annotators])) for name in names
        }
        return MeanUtility(self.utilities, means)

    @property
    def price(self) -> float:
        """The most that an answer costs; with the population's answer, its mean."""
        prices = sorted((annotator.price for annotator in self.annotators), reverse=True)
        return float(np.mean(prices)) if self.answer == "population" else sum(prices[: self.votes])

    def __call__(self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str], /) -> Preferences:
        """Ask for votes on N duels, and say what comes of them.

        Raises:
            OutOfMoney: The annotators would cost more than there is; nobody is asked then.
        """
        if self.answer == "population":
            return self._paid(self.price * len(prompts), lambda: self._mean(prompts, first, second))
        who = np.array([self.drawn(*texts) for texts in zip(prompts, first, second, strict=True)], np.int64)
        who = who.reshape(len(prompts), self.votes)
        prices = np.array([annotator.price for annotator in self.annotators])
        return self._paid(float(prices[who].sum()), lambda: self._voted(who, prompts, first, second))

    def drawn(self, prompt: str, first: str, second: str) -> list[int]:
        """Draw places of the annotators of a duel, `votes` different ones."""
        key = repr((self.seed, prompt, *sorted((first, second)))).encode("utf-8", "surrogatepass")
        draws = np.frombuffer(hashlib.shake_256(key).digest(8 * self.votes), "<u8")
        left = list(range(len(self.annotators)))
        return [left.pop(int(draw) % len(left)) for draw in draws]

    def _paid(self, money: float, ask: Callable[[], Preferences]) -> Preferences:
        if self.purse is None or money == 0.0:
            return ask()
        with self.purse.reserving(Cost(money=money)):
            return ask()

    def _voted(
        self, who: NDArray[np.int64], prompts: Sequence[str], first: Sequence[str], second: Sequence[str]
    ) -> Preferences:
        win, tie = np.full(who.shape, np.nan), np.zeros(who.shape)
        for number in np.unique(who):
            duels, places = np.nonzero(who == number)
            texts = [[column[duel] for duel in duels.tolist()] for column in (prompts, first, second)]
            said = self.annotators[number].answer(self.utilities, *texts)
            win[duels, places], tie[duels, places] = said.win, said.tie
        if self.votes == 1:
            return Preferences(win[:, 0], tie[:, 0])
        abilities = np.array([annotator.ability for annotator in self.annotators])
        weights = log_odds_of(abilities)[who] if self.aggregation == "ability" else np.ones(who.shape)
        return counted(win, tie, weights)

    def _mean(self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str]) -> Preferences:
        said = [annotator.answer(self.utilities, prompts, first, second) for annotator in self.annotators]
        win, tie = np.array([one.win for one in said]), np.array([one.tie for one in said])
        answered = ~np.isnan(win)
        count = answered.sum(axis=0)
        with np.errstate(invalid="ignore"):
            mean = np.where(answered, win, 0.0).sum(axis=0) / count
        return Preferences(mean, np.where(answered, tie, 0.0).sum(axis=0) / np.maximum(count, 1))


def crowd(
    utilities: Mapping[str, Mapping[str, Any]],
    annotators: Any,
    seed: int = 0,
    votes: int = 1,
    aggregation: str = "majority",
    answer: str = "drawn",
    home: Home | None = None,
) -> Crowd:
    """Make a crowd from settings as they stand in a configuration file.

    Args:
        utilities: Oracles with a utility, by names of one's own: `{kind: {name: good_words}, short: {name: length}}`.
        annotators: See `population`.
        seed: Of the annotators' draws, and of who answers what.
        votes: See `Crowd`.
        aggregation: See `Crowd`.
        answer: See `Crowd`.
        home: What the run gives; its purse pays.

    Example:
        >>> oracle = crowd({"kind": {"name": "good_words", "scale": 4.0}}, [{"beta": 0.5, "lapse": 0.2}])
        >>> float(oracle(["greet"], ["kind"], ["rude"]).win[0].round(4))
        0.8856

    Raises:
        UserError: A setting is refused, or an oracle has no utility.
    """
    named = checks.mapping("utilities", utilities)
    if not named:
        raise UserError("utilities is empty, expected oracles by name, such as {kind: {name: good_words}}")
    made = {name: _utility(name, given) for name, given in named.items()}
    people = population(annotators, seed, tuple(made))
    return Crowd(made, people, seed, votes, aggregation, answer, None if home is None else home.purse)


def _utility(name: str, given: object) -> UtilityOracle:
    settings = checks.mapping(f"utilities.{name}", given)
    if "name" not in settings:
        raise UserError(f"utilities.{name} has no 'name'; give the oracle's, and its settings beside it")
    oracle = make(settings.pop("name"), **settings)
    if not isinstance(oracle, UtilityOracle):
        raise UserError(
            f"utilities.{name} has no utility of its own that annotators could weigh; choose an oracle that scores "
            "each response, without temperature, noise and the like: these are the annotators'"
        )
    return oracle
