"""The oracle `cascade`: a cheap oracle answers what it is sure of, a dear one the rest. Both answer at once.

Chow's rule (1970, "On optimum recognition error and reject tradeoff", IEEE Trans. Inf. Theory 16(1)): a decision is
left to the dearer one where the chance that the cheap one is wrong, min(P, 1 - P), exceeds what asking is worth. It is
what cascades of language models use (Chen et al. 2023, FrugalGPT, arXiv 2305.05176), and where it fails (Jitkrittum et
al. 2023, arXiv 2307.02764) the cheap one is sure and wrong. Against that its first answers are compared with the dear
one's, and its log-odds are corrected by a line through them (Platt 1999).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.oracles.base import Oracle, Preferences, Unanswered, UtilityOracle, ask, make, utility_of
from duelenv.oracles.pricing import price_of
from duelenv.oracles.services.home import Home
from duelenv.oracles.services.spending import Cost, most_of
from duelenv.oracles.sources import answers_later

#: A cheap oracle that says 0 or 1 is as sure as this many logits.
_SUREST: Final = 10.0

_HALF: Final = 0.5


class Line(NamedTuple):
    """A correction of log-odds: slope * logit(P) + intercept, for the response shown first.

    A slope below 1 calms somebody who is too sure, the intercept takes back a liking for the first place.
    """

    slope: float = 1.0
    intercept: float = 0.0

    def corrected(self, preferences: Preferences) -> Preferences:
        """Correct the log-odds of what is decided; all else stays the same."""
        decided = preferences.win + preferences.lose
        win = decided * special.expit(self.slope * _log_odds(preferences) + self.intercept)
        return Preferences(win, preferences.tie)


def fit_line(cheap: Preferences, dear: NDArray[np.float64]) -> Line:
    """Fit the line of largest posterior: cross-entropy of the dear one's answers, and standard normal priors.

    Args:
        cheap: Answers of the one that is corrected, [N]; NaN is left out.
        dear: Expected labels of the other one, float64 [N]; NaN is left out.

    Returns:
        The line; its slope is above 0, with a prior around 1 on its logarithm. Without answers, the one that changes
        nothing.
    """
    log_odds = _log_odds(cheap)
    known = ~np.isnan(log_odds) & ~np.isnan(dear)
    x, y = log_odds[known], dear[known]

    def loss(point: NDArray[np.float64]) -> float:
        logits = np.exp(point[0]) * x + point[1]
        # -log p and -log(1 - p), without overflow.
        return float((np.logaddexp(0.0, -logits) * y + np.logaddexp(0.0, logits) * (1.0 - y)).sum() + point @ point / 2)

    found = optimize.minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9})
    return Line(float(np.exp(found.x[0])), float(found.x[1]))


def _log_odds(preferences: Preferences) -> NDArray[np.float64]:
    """Compute the log-odds of win against loss, given that it is no tie; 0 for a sure tie, NaN where one declines."""
    with np.errstate(divide="ignore", invalid="ignore"):
        odds = np.log(preferences.win) - np.log(preferences.lose)
    odds = np.where(np.isnan(preferences.win), np.nan, np.where(preferences.tie >= 1.0, 0.0, odds))
    clipped: NDArray[np.float64] = np.clip(odds, -_SUREST, _SUREST)
    return clipped


@dataclass
class Cascade:
    """A cheap oracle, and a dear one for what the cheap one is not sure of.

    Attributes:
        cheap: Asked first.
        dear: Asked where the cheap one's expected label is within `band` of one half, or it declines. The dear one's
            answer is the answer then.
        band: In [0, 0.5]. 0 is the cheap one alone, 0.5 the dear one alone; the other one is not asked then.
        calibration: Of so many pairs, the first that are asked, both are asked, and the cheap one is corrected by
            `fit_line` from there on; of these the dear one's answer counts. 0 to believe the cheap one as it is.
        record: File for what both said of these pairs, so that a restart goes on with the same line; None to forget.
    """

    cheap: Oracle
    dear: Oracle
    band: float = 0.2
    calibration: int = 0
    record: Path | None = None
    _pairs: dict[str, tuple[float, float, float]] = field(default_factory=dict, init=False, repr=False)
    _line: Line | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self.band = checks.number("band", self.band, low=0.0, high=_HALF)
        self.calibration = checks.integer("calibration", self.calibration, low=0)
        if self.calibration and self.band in (0.0, _HALF):
            raise UserError(
                f"calibration is {self.calibration} with band {self.band:g}, at which one oracle answers everything; "
                "leave it out, or give a band between 0 and 0.5"
            )
        for name in ("cheap", "dear"):
            if answers_later(getattr(self, name)):
                raise UserError(
                    f"{name} of a cascade answers later, expected an oracle that answers at once; use it alone, or "
                    "replay what it answered"
                )
        if self.calibration and self.record is not None and self.record.is_file():
            for line in self.record.read_text(encoding="utf-8").splitlines():
                if line.endswith("]"):  # another one was cut off when a process died
                    key, win, tie, dear = json.loads(line)
                    self._pairs[key] = (win, tie, dear)

    @property
    def inner(self) -> UtilityOracle | None:
        """The truth, for `utility_of`: the dear one's."""
        return utility_of(self.dear)

    @property
    def price(self) -> float:
        """The most that an answer costs: where both are asked."""
        return sum(price_of(oracle) for oracle in self._asked)

    def most(self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str]) -> Cost | None:
        """Find the most that duels may cost besides prices per answer, as a judge's tokens; None where nobody says."""
        costs = [most_of(oracle, prompts, first, second) for oracle in self._asked]
        known = [cost for cost in costs if cost is not None]
        return sum(known, Cost()) if known else None

    @property
    def _asked(self) -> list[Oracle]:
        """Whoever may be asked about a duel."""
        return [self.cheap] * (self.band < _HALF) + [self.dear] * (self.band > 0.0)

    @property
    def line(self) -> Line:
        """How the cheap one is corrected now: by the first `calibration` pairs, once there are as many."""
        if len(self._pairs) < self.calibration or not self.calibration:
            return Line()
        if self._line is None:
            win, tie, dear = np.array(list(self._pairs.values())[: self.calibration]).T
            self._line = fit_line(Preferences(win, tie), dear)
        return self._line

    def __call__(self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str], /) -> Preferences:
        """Answer N duels.

        Raises:
            Unanswered: The dear one fails, or cannot be paid; with the answers that the cheap one is sure of.
        """
        texts = (prompts, first, second)
        if self.band == 0.0:
            return ask(self.cheap, *texts)
        if self.band == _HALF:
            return ask(self.dear, *texts)
        cheap = ask(self.cheap, *texts)
        keys = [_key(*three) for three in zip(*texts, strict=True)]
        trial = self._on_trial(keys)
        corrected = cheap if self.line == Line() else self.line.corrected(cheap)
        unsure = ~(np.abs(corrected.expected_label - _HALF) >= self.band)  # NaN is unsure
        passed = np.flatnonzero(unsure | trial)
        if not len(passed):
            return corrected
        win, tie = corrected.win.copy(), corrected.tie.copy()
        try:
            dear = ask(self.dear, *([column[place] for place in passed.tolist()] for column in texts))
        except Unanswered as error:
            known = np.ones(len(win), np.bool_)
            known[passed] = error.answered
            win[passed], tie[passed] = error.preferences.win, error.preferences.tie
            raise Unanswered(str(error), Preferences(win, tie), known) from error
        except UserError as error:
            known = np.ones(len(win), np.bool_)
            known[passed] = False
            if not known.any():
                raise
            raise Unanswered(str(error), corrected, known) from error
        win[passed], tie[passed] = dear.win, dear.tie
        both = trial[passed]
        if both.any():
            said = zip(
                cheap.win[trial].tolist(), cheap.tie[trial].tolist(), dear.expected_label[both].tolist(), strict=True
            )
            self._keep(dict(zip(np.array(keys)[trial].tolist(), said, strict=True)))
        return Preferences(win, tie)

    def _on_trial(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """Choose the pairs that both are asked about, bool [N]: the first new ones, as many as are still wanted."""
        wanted = self.calibration - len(self._pairs)
        new = list(dict.fromkeys(key for key in keys if key not in self._pairs))[: max(wanted, 0)]
        places = {key: place for place, key in reversed(list(enumerate(keys))) if key in new}
        trial = np.zeros(len(keys), np.bool_)
        trial[list(places.values())] = True
        return trial

    def _keep(self, new: Mapping[str, tuple[float, float, float]]) -> None:
        """Write down what both said."""
        self._pairs |= new
        if self.record is not None:
            self.record.parent.mkdir(parents=True, exist_ok=True)
            with self.record.open("a", encoding="utf-8") as stream:
                stream.writelines(json.dumps([key, *said]) + "\n" for key, said in new.items())


def _key(prompt: str, first: str, second: str) -> str:
    return hashlib.sha256(repr((prompt, first, second)).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def cascade(
    cheap: Mapping[str, Any],
    dear: Mapping[str, Any],
    band: float = 0.2,
    calibration: int = 0,
    home: Home | None = None,
) -> Cascade:
    """Make a cascade from settings as they stand in a configuration file.

    Args:
        cheap: An oracle with its name and settings, `price` among them.
        dear: Another one.
        band: See `Cascade`.
        calibration: See `Cascade`.
        home: What the run gives: a purse that pays both, and a folder, in which each cell has a line of its own.

    Example:
        >>> oracle = cascade({"name": "length"}, {"name": "good_words"}, band=0.1)
        >>> oracle(["greet"] * 2, ["kind", "kind"], ["rude", "kind and wise"]).win.round(2)
        array([1.  , 0.12])

    Raises:
        UserError: A setting is refused.
    """
    first, last = _part("cheap", cheap, home), _part("dear", dear, home)
    record = None
    if home is not None and home.folder is not None:
        told = hashlib.sha256(json.dumps([cheap, dear], sort_keys=True, default=str).encode()).hexdigest()[:12]
        record = home.folder / f"cascade-{home.cell or 'all'}-{told}.jsonl"
    return Cascade(first, last, band, calibration, record)


def _part(name: str, given: object, home: Home | None) -> Oracle:
    settings = checks.mapping(name, given)
    if "name" not in settings:
        raise UserError(f"{name} has no 'name'; give the oracle's, and its settings beside it")
    return make(settings.pop("name"), home=home, **settings)
