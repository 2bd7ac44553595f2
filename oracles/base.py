"""The vocabulary of preference oracles: `Oracle`, `Preferences`, `ask`, `UtilityOracle`, registry.

An oracle answers, for a batch of duels, how likely the first response is preferred. It does not
draw labels (the worlds do, from their own random streams), count queries or keep a log.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.ground.registry import Registry
from duelenv.oracles import links

if TYPE_CHECKING:
    from duelenv.oracles.services.home import Home

ROUNDING = 1e-6
"""How far outside [0, 1] an oracle's answer may lie and still count as rounding (float32 models);
it is then clipped."""


@dataclass(frozen=True)
class Preferences:
    """An oracle's answers to N duels.

    Attributes:
        win: float64 [N], probability that the first response is preferred; NaN where the oracle
            cannot answer.
        tie: float64 [N], probability of a declared tie, 0 for an oracle that always decides.
    """

    win: NDArray[np.float64]
    tie: NDArray[np.float64]

    @property
    def lose(self) -> NDArray[np.float64]:
        """Probability that the second response is preferred: 1 - win - tie, float64 [N]."""
        # Rounding can leave -1e-17; NaN passes through maximum.
        return np.maximum(1.0 - self.win - self.tie, 0.0)

    @property
    def expected_label(self) -> NDArray[np.float64]:
        """Mean of the label, a tie counting half a win: win + tie / 2, float64 [N]."""
        return self.win + 0.5 * self.tie


class Unanswered(UserError):
    """Some duels of a batch have no answer now, as where a service is down; what was answered is not lost.

    An oracle raises it in place of returning. Who asked keeps the answers, and asks for the others again another time.
    NaN, in contrast, says that there will never be an answer.

    Attributes:
        preferences: Of all duels; anything where there is no answer.
        answered: Which of them were answered, bool [N].
    """

    def __init__(self, message: str, preferences: Preferences, answered: NDArray[np.bool_]) -> None:
        super().__init__(message)
        self.preferences, self.answered = preferences, answered

    def __reduce__(self) -> Any:
        return type(self), (str(self), self.preferences, self.answered)

    def changed(self, change: Callable[[Preferences], Preferences]) -> Unanswered:
        """Return the same, with a change of the preferences."""
        return Unanswered(str(self), change(self.preferences), self.answered)


@runtime_checkable
class Oracle(Protocol):
    """Anything that answers a batch of N duels; a plain function will do."""

    def __call__(
        self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str], /
    ) -> ArrayLike | Preferences:
        """Give the probability [N] that the first response is preferred, or `Preferences`."""
        ...


def ask(oracle: Oracle, prompts: Sequence[str], first: Sequence[str], second: Sequence[str]) -> Preferences:
    """Question an oracle about N duels and check its answer.

    Args:
        oracle: an `Oracle`, or any callable (prompts, first, second) -> probabilities [N].
        prompts: N prompts.
        first: N responses shown first.
        second: N responses shown second.

    Returns:
        The preferences, `win` and `tie` float64 [N]. A NaN probability means that the oracle could
        not answer; its tie probability is then 0.

    Raises:
        UserError: the three sequences differ in length, or the answer is not one probability per
            duel.
        Unanswered: the oracle has answers to some of the duels only.
    """
    count = len(prompts)
    if len(first) != count or len(second) != count:
        raise UserError(
            f"oracle was asked about {count} prompts, {len(first)} first and {len(second)} second "
            "responses, expected equal numbers; pass one of each for every duel"
        )
    return _checked(oracle(prompts, first, second), count)


def _checked(answer: object, count: int) -> Preferences:
    """Check an oracle's answer to N duels as `Preferences` in range."""
    if isinstance(answer, Preferences):
        win = _probabilities(answer.win, count, "the first response is preferred")
        tie = _probabilities(answer.tie, count, "the duel is a declared tie")
        tie = np.where(np.isnan(win), 0.0, tie)
        if np.isnan(tie).any():
            duel = int(np.argmax(np.isnan(tie)))
            raise UserError(
                f"oracle returned a tie probability of nan for duel {duel}, expected a probability "
                "in [0, 1]; return nan only as the probability that the first response is preferred"
            )
        excess = win + tie > 1.0 + ROUNDING
        if excess.any():
            duel = int(np.argmax(excess))
            raise UserError(
                f"oracle returned {win[duel]:g} and a tie probability of {tie[duel]:g} for duel "
                f"{duel}, expected a sum of at most 1; return the probabilities of a win, a tie "
                "and a loss of the first response"
            )
        return Preferences(win, np.minimum(tie, 1.0 - np.nan_to_num(win)))
    win = _probabilities(answer, count, "the first response is preferred")
    return Preferences(win, np.zeros(count))


def _probabilities(values: object, count: int, meaning: str) -> NDArray[np.float64]:
    """Check `values` as float64 [count] in [0, 1] or NaN, or make a `UserError` saying what is wrong."""
    array = checks.real_array(
        values,
        lambda what: UserError(
            f"oracle returned {what}, expected {count} probabilities; return an array of the probabilities that "
            f"{meaning}, with nan where it declines for good"
        ),
    )
    if array.shape != (count,):
        raise UserError(
            f"oracle returned an array of shape {array.shape} for {count} duels, expected shape "
            f"({count},); return one probability per duel"
        )
    wrong = (array < -ROUNDING) | (array > 1.0 + ROUNDING)  # False for NaN
    if wrong.any():
        duel = int(np.argmax(wrong))
        raise UserError(
            f"oracle returned {array[duel]:g} for duel {duel}, expected a probability in [0, 1]; "
            f"return the probability that {meaning}"
        )
    return np.clip(array, 0.0, 1.0)


class UtilityOracle(ABC):
    """An oracle whose preferences come from a utility: P(first preferred) = F(u_first - u_second).

    A subclass gives `utility` and, where it is known, `maximum`; to disturb the preferences, use a
    wrapper and leave `__call__` as it is. `link` names F, one of `duelenv.oracles.links.LINKS`; `free` says whether
    answers may be computed as often as one likes, as a dry run does, or are asked elsewhere and may be paid.
    """

    link: str = "logistic"
    free: bool = True

    @abstractmethod
    def utility(self, prompts: Sequence[str], responses: Sequence[str]) -> NDArray[np.float64]:
        """Compute the utility of each response to the prompt beside it, in units of the link, float64 [N]."""

    def maximum(self, prompts: Sequence[str]) -> NDArray[np.float64] | None:
        """Find the largest utility over all possible responses, float64 [N]; None when it is unknown."""
        return None

    def __call__(self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str], /) -> NDArray[np.float64]:
        """Compute P(first preferred), float64 [N]."""
        return self.preference(prompts, first, second)

    def preference(
        self,
        prompts: Sequence[str],
        first: Sequence[str],
        second: Sequence[str],
        *,
        temperature: float = 1.0,
    ) -> NDArray[np.float64]:
        """Compute F((u_first - u_second) / temperature), float64 [N]."""
        # One call for both sides, so that a utility that works in batches fills them.
        utilities = finite_utility(self, [*prompts, *prompts], [*first, *second])
        difference = utilities[: len(first)] - utilities[len(first) :]
        probability = links.link(self.link)(difference / temperature)
        return np.asarray(probability, dtype=np.float64)


def finite_utility(oracle: UtilityOracle, prompts: Sequence[str], responses: Sequence[str]) -> NDArray[np.float64]:
    """Compute the utility of each response to the prompt beside it, checked, float64 [N].

    Raises:
        UserError: It is not one finite number per response. A utility that is NaN or infinite is a fault of whoever
            computes it, and no way of saying that there is no answer.
    """
    name = type(oracle).__name__
    values = checks.real_array(
        oracle.utility(prompts, responses),
        lambda what: UserError(f"utility of {name} returned {what}, expected {len(responses)} finite numbers"),
    )
    if values.shape != (len(responses),):
        raise UserError(
            f"utility of {name} returned an array of shape {values.shape} for {len(responses)} responses, expected "
            f"shape ({len(responses)},); return one number per response"
        )
    if not np.isfinite(values).all():
        place = int(np.argmin(np.isfinite(values)))
        raise UserError(
            f"utility of {name} is {values[place]:g} for response {str(responses[place])[:60]!r}, expected a finite "
            "number; correct what computes it"
        )
    return values


def utility_of(oracle: object) -> UtilityOracle | None:
    """Find the utility oracle inside any number of wrappers: the truth that regret is measured by.

    Args:
        oracle: any oracle; a wrapper keeps the oracle it wraps as `inner`.

    Returns:
        The innermost oracle if it has a utility, else None.
    """
    inner = innermost(oracle)
    return inner if isinstance(inner, UtilityOracle) else None


def innermost(oracle: object) -> object:
    """Find what is inside any number of wrappers; a utility oracle is never one."""
    inner: object = oracle
    while not isinstance(inner, UtilityOracle) and hasattr(inner, "inner"):
        inner = inner.inner
    return inner


ORACLES: Registry[Callable[..., Oracle]] = Registry(
    "oracle",
    {
        "good_words": "duelenv.oracles.text:GoodWords",
        "rare_word": "duelenv.oracles.text:RareWord",
        "length": "duelenv.oracles.text:Length",
        "variety": "duelenv.oracles.text:Variety",
        "on_topic": "duelenv.oracles.text:OnTopic",
        "opening": "duelenv.oracles.text:Opening",
        "remote": "duelenv.oracles.remote:connect",
        "judge": "duelenv.oracles.judge.settings:make_judge",
        "reward_model": "duelenv.oracles.reward_model:RewardModel.from_pretrained",
        "reward_models": "duelenv.oracles.reward_models:RewardModels.load",
        "pairwise_ranker": "duelenv.oracles.pairwise_ranker:PairwiseRanker.from_pretrained",
        "reward_server": "duelenv.oracles.served.server:RewardServer",
        "recorded_scores": "duelenv.oracles.recorded:RecordedScores.load",
        "recorded_pairs": "duelenv.oracles.recorded:RecordedPairs.load",
        "crowd": "duelenv.oracles.crowds.crowd:crowd",
        "cascade": "duelenv.oracles.crowds.cascade:cascade",
        "recorded": "duelenv.recorded:load_recorded",
        "people": "duelenv.oracles.people:People",
    },
)

names = ORACLES.names
register = ORACLES.register


def takes_home(name: str) -> bool:
    """Tell whether an oracle keeps something between processes, or spends: whether its factory has a parameter `home`.

    Raises:
        UserError: the name is unknown.
    """
    return "home" in inspect.signature(ORACLES[name]).parameters


def make(name: str, *, home: Home | None = None, **settings: Any) -> Oracle:
    """Build an oracle from its name and settings, as they stand in a configuration file.

    Besides the oracle's own settings every oracle takes those of the wrappers: `temperature`,
    `position_bias`, `tie_band` and `noise`, applied in this order, then those that were registered
    (`duelenv.oracles.wrappers`). Last, `price` is the money that each answer costs (`duelenv.oracles.pricing`). A
    setting of the oracle itself goes before a wrapper's, or the price, of the same name. `home` is what a run gives.

    >>> oracle = make("good_words", scale=4.0, noise=0.1)
    >>> float(oracle(["greet"], ["kind"], ["rude"]).win[0].round(4))
    0.8997

    Raises:
        UserError: the name or a setting is unknown, a setting is missing, or a value is refused.
    """
    from duelenv.oracles import pricing, wrappers  # here, because they build on this module

    taken = inspect.signature(ORACLES[name]).parameters
    besides = [key for key in (*wrappers.WRAPPERS.in_order(), "price") if key not in taken]
    own = {key: value for key, value in settings.items() if key not in besides}
    if home is not None and takes_home(name):
        own["home"] = home
    oracle: Any = ORACLES.make(name, own, besides=besides)
    for key in besides:
        if key not in settings:
            continue
        if key == "price":
            oracle = pricing.priced(oracle, settings[key], home)
        else:
            oracle = wrappers.wrapped(oracle, key, settings[key])
    return oracle
