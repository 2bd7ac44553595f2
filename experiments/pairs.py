"""What a table of recorded pairs holds, how well an oracle or a belief agrees with it, and what it can be used for.

Pairs are all the preference data most people have. Nothing is asked of anybody here but of the oracle that is to be
judged, and nothing is trained but a belief that is thrown away.
"""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from duelenv.data.pairs import load_pairs
from duelenv.data.pool import Pairs
from duelenv.data.tables import Table
from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.ground.randomness import stream
from duelenv.ground.terminal import printable

__all__ = ["Agreement", "Share", "belief_agreement", "length_agreement", "oracle_agreement", "pairs_report"]

#: Pairs from which a belief learns in one update, and which an oracle is asked about in one call.
_LESSON, _CALL = 16, 256
_WIDTH = 100
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Share:
    """A mean over pairs.

    Attributes:
        mean: The mean.
        half_width: Half a 95 % t-interval of it; pairs of one prompt count as one draw. NaN with a single prompt.
    """

    mean: float
    half_width: float

    @classmethod
    def of(cls, values: Float64, prompts: NDArray[np.int64]) -> Share:
        """Return the mean of values [M], of pairs whose prompts have these numbers [M]."""
        mean = float(values.mean())
        totals = np.bincount(np.unique(prompts, return_inverse=True)[1].ravel(), weights=values - mean)
        clusters = len(totals)
        if clusters < 2:
            return cls(mean, float("nan"))
        # The linearised ratio of two totals over clusters drawn independently; Cochran, Sampling Techniques, eq. 9A.1.
        error = np.sqrt(np.square(totals).sum() * clusters / (clusters - 1)) / len(values)
        return cls(mean, float(stats.t.ppf(0.975, clusters - 1) * error))

    def __str__(self) -> str:
        return f"{self.mean:.3f}" if np.isnan(self.half_width) else f"{self.mean:.3f} ± {self.half_width:.3f}"


@dataclass(frozen=True)
class Agreement:
    """How well a judge agrees with recorded choices.

    Attributes:
        accuracy: Share of the pairs in which the chosen response is the likelier winner; where both are equally
            likely, one half.
        log_loss: Mean of -log P(chosen preferred), in nats; 0.693 is what somebody who knows nothing has. None for
            judges without probabilities.
        unanswered: Pairs that the judge declined, left out of both.
    """

    accuracy: Share
    log_loss: Share | None = None
    unanswered: int = 0

    def __str__(self) -> str:
        parts = [str(self.accuracy)]
        if self.log_loss is not None:
            parts.append(f"log-loss {self.log_loss}")
        if self.unanswered:
            parts.append(f"{self.unanswered:,} declined")
        return ", ".join(parts)


def length_agreement(pairs: Pairs) -> Agreement:
    """How often the chosen response is the longer one, in characters: what a judge must beat to know more than that."""
    longer = [np.sign(len(a) - len(b)) for a, b in zip(pairs.chosen, pairs.rejected, strict=True)]
    return _agreement(pairs, 0.5 + 0.5 * np.array(longer, np.float64), probabilities=False)


def oracle_agreement(pairs: Pairs, oracle: Any, *, seed: int = 0) -> Agreement:
    """How well an oracle, a reward model say, agrees with recorded choices.

    Which of the two responses it is shown first is a coin's decision: an oracle that prefers a position gains nothing.

    Args:
        pairs: The pairs; ties are not asked about.
        oracle: Anything that `duelenv.oracles.ask` takes.
        seed: Of the coins.

    Raises:
        UserError: The oracle answers with something else than probabilities, or answers no pair; all pairs are ties.
    """
    from duelenv.oracles.base import ask

    win = np.full(len(pairs), np.nan)
    swapped = stream(seed, "experiments/pairs/order").random(len(pairs)) < 0.5
    decided = np.flatnonzero(_decided(pairs))
    for rows in np.split(decided, range(_CALL, len(decided), _CALL)) if len(decided) else ():
        shown = [
            (pairs.prompts[row], *(pairs.chosen[row], pairs.rejected[row])[:: -1 if swapped[row] else 1])
            for row in rows
        ]
        prompts, first, second = map(list, zip(*shown, strict=True))
        expected = ask(oracle, prompts, first, second).expected_label
        win[rows] = np.where(swapped[rows], 1.0 - expected, expected)
    return _agreement(pairs, win)


def belief_agreement(
    pairs: Pairs,
    belief: str | Mapping[str, Any],
    *,
    features: Any = None,
    dim: int | None = None,
    parts: int = 5,
    seed: int = 0,
) -> Agreement:
    """How well a belief that learnt other pairs agrees with these: cross-validation by prompt.

    The prompts are dealt into `parts`; the pairs of each part are judged by a belief that has seen those of all others,
    once, in an order and with first and second places that are drawn.

    Args:
        pairs: The pairs. Ties are learnt from and not judged.
        belief: Name of a belief, or a mapping with its `name` and its settings.
        features: As `PoolDuel` takes them for the pairs as a pool of two responses a prompt; None makes them of the
            texts.
        dim: Number of features, as `PoolDuel` takes it.
        parts: Parts of the prompts.
        seed: Of the parts, the order and the belief.

    Raises:
        UserError: No such belief or setting, fewer prompts than parts, or features that do not fit.
    """
    from duelenv.agents.base import SettingsReader
    from duelenv.agents.parts import make_belief
    from duelenv.worlds.pool_duel import PoolDuelVectorEnv
    from duelenv.worlds.pool_inputs import features_of

    checks.integer("parts", parts, low=2)
    prompts = _numbers_of(pairs.prompts)
    count = int(prompts.max()) + 1
    if count < parts:
        raise UserError(
            f"the pairs have {count} different prompts, expected at least {parts}, one for each part that is held out; "
            "give more pairs or a smaller number as parts"
        )
    given = {"name": belief} if isinstance(belief, str) else dict(belief)
    named = {**{key: value for key, value in given.items() if key != "name"}, "belief": given.get("name")}
    pool = pairs.pool()
    phi = features_of(pool, features, dim)  # [M, 2, d], the chosen response first
    view = PoolDuelVectorEnv(pool, phi, horizon=1).view()
    labels = np.where(_decided(pairs), 1.0 if pairs.labels is None else pairs.labels, 0.5)
    part_of = stream(seed, "experiments/pairs/parts").permutation(count)[prompts] % parts
    win = np.full(len(pairs), np.nan)
    for part in range(parts):
        settings = SettingsReader("duelenv pairs", named)
        learner = make_belief(view, seed, settings)
        settings.close()
        draws = stream(seed, "experiments/pairs/lessons", part)
        order = draws.permutation(np.flatnonzero(part_of != part))
        for rows in np.split(order, range(_LESSON, len(order), _LESSON)):
            swapped = (draws.random(len(rows)) < 0.5).astype(np.int64)
            label = np.where(swapped == 1, 1.0 - labels[rows], labels[rows])
            learner.update(phi[rows, swapped], phi[rows, 1 - swapped], label)
        held_out = np.flatnonzero(part_of == part)
        utility = np.asarray(learner.mean(phi[held_out]), np.float64)
        win[held_out] = 1.0 / (1.0 + np.exp(np.clip(utility[:, 1] - utility[:, 0], -700.0, 700.0)))
    return _agreement(pairs, win)


def _decided(pairs: Pairs) -> NDArray[np.bool_]:
    """Which pairs somebody decided, bool [M]: neither declared ties nor equal scores."""
    decided = np.ones(len(pairs), np.bool_) if pairs.margins is None else pairs.margins != 0
    return decided if pairs.labels is None else decided & (pairs.labels > 0.5)


def _numbers_of(prompts: tuple[str, ...]) -> NDArray[np.int64]:
    """Numbers [M] that are equal where prompts are."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(prompt, len(numbers)) for prompt in prompts], np.int64)


def _agreement(pairs: Pairs, win: Float64, *, probabilities: bool = True) -> Agreement:
    """Return how well P(chosen preferred) [M], NaN where nothing was said, agrees with the pairs that were decided."""
    decided = _decided(pairs)
    answered = decided & ~np.isnan(win)
    if not answered.any():
        raise UserError(
            "no pair was both decided and answered, so that there is no accuracy; give pairs that are not all ties and "
            "a judge who answers"
        )
    said, prompts = win[answered], _numbers_of(pairs.prompts)[answered]
    hits = np.where(said == 0.5, 0.5, said > 0.5)
    losses = -np.log(np.maximum(said, np.finfo(np.float64).tiny))
    return Agreement(
        Share.of(hits.astype(np.float64), prompts),
        Share.of(losses, prompts) if probabilities else None,
        int(decided.sum() - answered.sum()),
    )


# The report -----------------------------------------------------------------------------------------------------------

_USES = (
    "warm start: 'duelenv run CONFIG labels={file}' lets every agent learn these pairs before its first round, belief "
    "and policy both, in a world with a policy model whatever its prompts are; they count as no query",
    "accuracy: 'duelenv pairs {file} oracle.name=reward_model oracle.model=DIR' judges a reward model, belief=ensemble "
    "a belief on pairs held out",
    "pool: 'duelenv run CONFIG data={file}' replays the choices as labels in PoolDuel, where an agent learns on some "
    "prompts and recommends on others{caution}",
    "not from pairs alone: what an agent gains by choosing what to ask, which needs more than two responses to a "
    "prompt, or a policy and an oracle that answers",
)


def pairs_report(source: str | Path | Table, settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield, line by line, what a table of pairs holds, how well judges agree with it, and what it is good for.

    Args:
        source: The table.
        settings: `oracle`, `belief`: a name, or a mapping with the `name` and its settings; `features`, `dim`, `parts`
            and `seed`, as `belief_agreement` takes them; the rest are those of `duelenv.data.load_pairs`.

    Raises:
        UserError: As `load_pairs`, `oracle_agreement` and `belief_agreement` do.
    """
    own = {name: settings[name] for name in ("features", "dim", "parts", "seed") if name in settings}
    judges = {name: _named(name, settings[name]) for name in ("oracle", "belief") if name in settings}
    with warnings.catch_warnings(record=True) as announced:
        warnings.simplefilter("always")
        pairs = load_pairs(source, **{name: settings[name] for name in settings if name not in (*own, *judges)})
    oracle = None
    if "oracle" in judges:
        from duelenv import oracles

        oracle = oracles.make(**judges["oracle"])  # before anything is printed: it may be refused
    yield from _contents(source, pairs, [str(warning.message) for warning in announced])
    yield "\nagreement with the choices (ties left out)"
    yield f"  longer response           {length_agreement(pairs)}"
    if oracle is not None:
        seed = {"seed": own["seed"]} if "seed" in own else {}
        yield f"  {judges['oracle']['name']:<25} {oracle_agreement(pairs, oracle, **seed)}"
    belief = judges.get("belief", {"name": "linear_logistic"})
    if "belief" in judges or own or len(set(pairs.prompts)) >= _FEWEST:
        agreement = belief_agreement(pairs, belief, **own)
        yield f"  {belief['name'] + ', held out':<25} {agreement}"
    yield "\nwhat these pairs are good for"
    caution = pairs.pool().caution
    for use in _USES:
        yield textwrap.fill(
            printable(use.format(file=source, caution="" if caution is None else f"; but {caution}")),
            _WIDTH,
            initial_indent="  ",
            subsequent_indent="    ",
            break_long_words=False,  # paths, which are to be copied
            break_on_hyphens=False,
        )


#: Different prompts from which on a belief is tried without being asked for.
_FEWEST = 50


def _named(key: str, given: Any) -> dict[str, Any]:
    if isinstance(given, str):
        return {"name": given}
    if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
        raise UserError(f"'{key}' is {given!r}, expected a name, or a mapping with its 'name' and settings")
    return dict(given)


def _contents(source: object, pairs: Pairs, announced: list[str]) -> Iterator[str]:
    ties = int((~_decided(pairs)).sum())
    equal = sum(a == b for a, b in zip(pairs.chosen, pairs.rejected, strict=True))
    yield f"{printable(str(source))}: {len(pairs):,} pairs, {len(set(pairs.prompts)):,} different prompts"
    if pairs.reading:
        yield textwrap.fill(printable(pairs.reading), _WIDTH, initial_indent="  ", subsequent_indent="    ")
    for note in dict.fromkeys([*(note.removeprefix(f"{source}: ") for note in announced), *pairs.notes]):
        yield f"  {printable(note)}"
    if pairs.margins is None:
        yield f"  no scores, only choices; {ties:,} ties"
    else:
        low, middle, high = np.quantile(pairs.margins, [0.0, 0.5, 1.0])
        against = int((pairs.margins < 0).sum())
        yield f"  margins of the scores from {low:g} to {high:g}, median {middle:g}; {ties:,} ties" + (
            f"; {against:,} contradict the choice" if against else ""
        )
    if equal:
        yield f"  {equal:,} pairs of equal texts"
