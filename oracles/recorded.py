"""Oracles that look answers up in a record: scores of single responses, or choices between two.

For data that was labelled before. Not an importer of data sets: `load` reads the package's own
plain JSON lines, and a `UserError` names what the record does not hold.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from duelenv.ground.errors import UserError
from duelenv.oracles import links
from duelenv.oracles.base import UtilityOracle


class RecordedScores(UtilityOracle):
    """A utility that was recorded for certain responses: u(prompt, response) by look-up.

    Attributes:
        link: name of the link.
    """

    def __init__(self, scores: Mapping[tuple[str, str], float], *, link: str = "logistic") -> None:
        """Take {(prompt, response): score}, scores in units of the link (logits by default).

        Raises:
            UserError: there is no score, a score is not finite, or the link is unknown.
        """
        links.link(link)
        self.link = link
        if not scores:
            raise UserError("scores are empty, expected {(prompt, response): score}; pass some")
        self._scores: dict[tuple[str, str], float] = {}
        self._best: dict[str, float] = {}
        for (prompt, response), score in scores.items():
            value = _finite(score, f"the score of response {_short(response)}")
            self._scores[prompt, response] = value
            self._best[prompt] = max(value, self._best.get(prompt, -math.inf))

    @classmethod
    def load(cls, path: str | Path, *, link: str = "logistic") -> RecordedScores:
        """Read JSON lines (.jsonl, .jsonl.gz) with the fields prompt, response, score.

        Raises:
            UserError: the file or a line is not of this kind, or two lines contradict each other.
        """
        scores: dict[tuple[str, str], float] = {}
        for place, line in _json_lines(path, ("prompt", "response"), ("score",)):
            key = (str(line["prompt"]), str(line["response"]))
            score = _finite(line["score"], f"the score in {place}")
            if scores.setdefault(key, score) != score:
                raise UserError(
                    f"{place} scores response {_short(key[1])} {score:g}, expected {scores[key]:g} "
                    "as on an earlier line; keep one of them"
                )
        return cls(scores, link=link)

    def utility(self, prompts: Sequence[str], responses: Sequence[str]) -> NDArray[np.float64]:
        """Look up recorded scores, float64 [N].

        Raises:
            UserError: a response has no recorded score.
        """
        values = np.empty(len(responses))
        for row, key in enumerate(zip(prompts, responses, strict=True)):
            score = self._scores.get(key)
            if score is None:
                raise UserError(
                    f"response {_short(key[1])} to prompt {_short(key[0])} has no recorded score, "
                    "expected one of the recorded responses; add its score to the record"
                )
            values[row] = score
        return values

    def maximum(self, prompts: Sequence[str]) -> NDArray[np.float64]:
        """Find the largest recorded score of each prompt, float64 [N]; other responses have no utility.

        Raises:
            UserError: a prompt is not in the record.
        """
        for prompt in prompts:
            if prompt not in self._best:
                raise UserError(
                    f"prompt {_short(prompt)} has no recorded score, expected a recorded prompt; "
                    "add its responses to the record"
                )
        return np.array([self._best[prompt] for prompt in prompts], dtype=np.float64)


class Compared(NamedTuple):
    """One recorded comparison of two responses.

    Attributes:
        prompt: The prompt.
        first: One response.
        second: The other one.
        win: Probability or share with which the first was preferred, in [0, 1].
        tie: That of a declared tie; win + tie is at most 1.
    """

    prompt: str
    first: str
    second: str
    win: float
    tie: float = 0.0


class PairRecord:
    """What was recorded of pairs of responses, in either order; a pair that came several times stands once.

    Args:
        compared: All comparisons, in any order.

    Attributes:
        repeated: Comparisons of a pair that had been recorded before.

    Raises:
        UserError: there is none.
    """

    def __init__(self, compared: Iterable[Compared]) -> None:
        self.repeated = 0
        self._tallies: dict[str, dict[tuple[str, str], list[float]]] = {}
        for prompt, first, second, win, tie in compared:
            pairs = self._tallies.setdefault(prompt, {})
            if (tally := pairs.get((second, first))) is not None and first != second:
                win = max(1.0 - win - tie, 0.0)
            else:
                tally = pairs.setdefault((first, second), [0.0, 0.0, 0])
            self.repeated += tally[2] > 0
            for place, more in enumerate((win, tie, 1)):
                tally[place] += more
        if not self._tallies:
            raise UserError("pairs are empty, expected (prompt, chosen, rejected); pass some")

    @property
    def prompts(self) -> tuple[str, ...]:
        """The different prompts."""
        return tuple(self._tallies)

    @property
    def num_pairs(self) -> int:
        """Number of different pairs, whatever their order."""
        return sum(map(len, self._tallies.values()))

    def __contains__(self, prompt: object) -> bool:
        return prompt in self._tallies

    def pairs_of(self, prompt: str) -> list[Compared]:
        """Find all pairs of a prompt, each once, with the mean of what was recorded; none for an unknown prompt."""
        return [
            Compared(prompt, *pair, win / count, tie / count)
            for pair, (win, tie, count) in self._tallies.get(prompt, {}).items()
        ]

    def find(self, prompt: str, first: str, second: str) -> tuple[float, float] | None:
        """Find mean probabilities that the first wins and of a tie; None for a pair that was never recorded."""
        pairs = self._tallies.get(prompt, {})
        if (tally := pairs.get((first, second))) is not None:
            return tally[0] / tally[2], tally[1] / tally[2]
        if (tally := pairs.get((second, first))) is not None:
            return max(tally[2] - tally[0] - tally[1], 0.0) / tally[2], tally[1] / tally[2]
        return None

    def lacking(self, prompt: str, first: str, second: str) -> UserError:
        """Make the error that says what of a pair was never recorded: its prompt, or only the pair."""
        if prompt not in self:
            return UserError(
                f"prompt {_short(prompt)} is none of the {len(self._tallies)} recorded ones, expected one of them; "
                "ask about these, or add its pairs to the record"
            )
        return UserError(
            f"the pair {_short(first)} and {_short(second)} for prompt {_short(prompt)} was never recorded, expected "
            "a recorded pair; add the choice to the record"
        )


class RecordedPairs:
    """Recorded choices between two responses, found in either order.

    The answer is the share of the recorded choices that the first response won: 0 or 1 for a pair
    recorded once. A response against itself gets 1/2 without a record.

    `duelenv.recorded.Recorded` reads other tables and ledgers, and can look for the nearest pair.
    """

    def __init__(self, pairs: Iterable[tuple[str, str, str]]) -> None:
        """Take (prompt, chosen, rejected) triples; a pair may come several times.

        Raises:
            UserError: there is no pair.
        """
        self._record = PairRecord(Compared(*triple, win=1.0) for triple in pairs)

    @classmethod
    def load(cls, path: str | Path) -> RecordedPairs:
        """Read JSON lines (.jsonl, .jsonl.gz) with the fields prompt, chosen, rejected.

        Raises:
            UserError: the file or a line is not of this kind.
        """
        return cls(
            (str(line["prompt"]), str(line["chosen"]), str(line["rejected"]))
            for _, line in _json_lines(path, ("prompt", "chosen", "rejected"), ())
        )

    def __call__(self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str], /) -> NDArray[np.float64]:
        """Compute the share of recorded choices for the first response, float64 [N].

        Raises:
            UserError: a pair is not in the record.
        """
        shares = np.empty(len(prompts))
        for row, (prompt, one, two) in enumerate(zip(prompts, first, second, strict=True)):
            if one == two:
                shares[row] = 0.5
                continue
            found = self._record.find(prompt, one, two)
            if found is None:
                raise self._record.lacking(prompt, one, two)
            shares[row] = found[0]
        return shares


def _finite(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise UserError(f"{what} is {value!r}, expected a finite number; correct or remove it")
    number = float(value)
    if not math.isfinite(number):
        raise UserError(f"{what} is {number}, expected a finite number; correct or remove it")
    return number


def _short(text: str) -> str:
    """Write a text as it stands in a message: quoted, and cut where it is long."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _json_lines(
    path: str | Path, texts: tuple[str, ...], others: tuple[str, ...]
) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield (place, record) of each line, with the named fields present and the text fields strings."""
    file = Path(path)
    if not file.name.endswith((".jsonl", ".jsonl.gz")):
        raise UserError(f"record file is {str(file)!r}, expected .jsonl or .jsonl.gz; convert the file")
    if not file.is_file():
        raise UserError(f"record file {str(file)!r} does not exist, expected a file; check the path")
    opener = gzip.open if file.name.endswith(".gz") else open
    fields = ", ".join((*texts, *others))
    with opener(file, "rt", encoding="utf-8") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            place = f"{str(file)!r} line {number}"
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                raise UserError(
                    f"{place} is {_short(line.strip())}, expected a JSON object; correct the line"
                ) from None
            if not isinstance(record, dict):
                raise UserError(
                    f"{place} is {_short(line.strip())}, expected a JSON object with the "
                    f"fields {fields}; correct the line"
                )
            for field in (*texts, *others):
                if field not in record:
                    raise UserError(f"{place} lacks the field {field!r}, expected {fields}; add it")
            for field in texts:
                if not isinstance(record[field], str):
                    raise UserError(f"{place} has {record[field]!r} as {field!r}, expected text; correct it")
            yield place, record
