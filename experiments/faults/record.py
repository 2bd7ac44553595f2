"""What the oracle of a disturbed run wrote down by itself, and what became of its labels; starts nothing.

No completed label may be lost, asked for twice or invented, whoever dies:

- *lost*: an answer that the oracle gave and that is not among the labels at the end;
- *doubled*: a comparison that was answered more often than in a run that nobody disturbs, although its process had
  the time to write the answer down;
- *in flight*: the same where it had not: the answer was its process's last, in the moment before it died;
- *invented*: a label whose comparison the oracle never answered;
- *asked again*: a comparison that was asked more often, for whatever reason.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from duelenv.experiments.folder.layout import RunFolder

__all__ = ["Death", "Peace", "Tally", "count_labels", "digest_of", "read_record", "read_tables"]

#: Seconds that a process may live on after its run is dead.
_ORPHANED = 2.0
#: Seconds from an answer to the death of its process in which the answer may be lost.
_MOMENT = 1.0


@dataclass
class Tally:
    """What became of the labels of one run folder, or of several."""

    lost: int = 0
    doubled: int = 0
    invented: int = 0
    in_flight: int = 0
    asked_again: int = 0
    faults: int = 0
    """Kills, damages or failed writes."""
    refused: int = 0
    """Faults that ended in one sentence, and were rightly told."""
    survived: int = 0
    """Faults after which the same command went on to equal results and labels."""
    longest_orphan: float = 0.0
    """Seconds that a process of a run lived on after the run's own process was dead."""
    wrong: list[str] = field(default_factory=list)
    """What must not be, a sentence each."""

    def add(self, other: Tally) -> None:
        """Add another one to this."""
        for name in ("lost", "doubled", "invented", "in_flight", "asked_again", "faults", "refused", "survived"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.longest_orphan = max(self.longest_orphan, other.longest_orphan)
        self.wrong += other.wrong


@dataclass(frozen=True)
class Entry:
    """A line of the oracle's record."""

    word: str
    life: str
    pid: int
    session: int
    time: float
    digests: tuple[str, ...]


def read_record(record: Path) -> list[Entry]:
    """Read the lines of an oracle's record, in order; none where it was never asked."""
    if not record.exists():
        return []
    found = []
    for line in record.read_text(encoding="ascii").splitlines():
        word, life, pid, session, moment, *digests = line.split(" ")
        found.append(Entry(word, life, int(pid), int(session), float(moment), tuple(digests)))
    return found


@dataclass(frozen=True)
class Death:
    """The end of a start that did not end well, and from when on the end of its processes was due."""

    session: int
    struck: float
    died: float


@dataclass(frozen=True)
class Peace:
    """What a run that nobody disturbs leaves."""

    results: dict[str, Any]
    labels: dict[str, Any]
    asked: Counter[str]
    """How often each comparison was asked."""
    answered: Counter[tuple[str, ...]]
    """How often each batch was answered."""

    @classmethod
    def of(cls, run: Path, record: Path) -> Peace:
        """Read a run folder and the oracle's record of it."""
        entries = read_record(record)
        answered = Counter(entry.digests for entry in entries if entry.word == "answered")
        return cls(*read_tables(run), _asked(entries), answered)


def count_labels(
    tally: Tally, entries: Sequence[Entry], labels: Mapping[str, Any], peace: Peace, deaths: Sequence[Death]
) -> None:
    """Hold the oracle's record against the labels of a run and against an undisturbed one.

    Args:
        tally: Where the counts go.
        entries: The oracle's record of the disturbed run.
        labels: Its label table, by column.
        peace: The undisturbed run.
        deaths: Starts that did not end well.
    """
    answered = Counter(entry.digests for entry in entries if entry.word == "answered")
    given = _single(answered)
    kept = Counter(
        digest_of(*texts)
        for *texts, label in zip(*(labels[name] for name in ("prompt", "first", "second", "label")), strict=True)
        if label is not None
    )
    tally.invented = (kept - given).total()
    tally.asked_again = (_asked(entries) - peace.asked).total()
    # Answers beyond those of a peaceful run were paid twice; the others have to be among the labels.
    known = Counter({batch: count for batch, count in answered.items() if batch in peace.answered})
    extra = known - peace.answered
    tally.lost = (given - _single(extra) - kept).total()
    excused = _in_flight(entries, deaths) & extra
    tally.in_flight = _single(excused).total()
    tally.doubled = _single(extra - excused).total()


def _asked(entries: Sequence[Entry]) -> Counter[str]:
    return Counter(digest for entry in entries if entry.word == "asked" for digest in entry.digests)


def digest_of(prompt: str, first: str, second: str) -> str:
    """Hash a comparison to what the oracle's record calls it."""
    return hashlib.sha256(json.dumps([prompt, first, second]).encode("ascii")).hexdigest()[:24]


def _single(batches: Counter[tuple[str, ...]]) -> Counter[str]:
    """Count batches as single comparisons."""
    found: Counter[str] = Counter()
    for batch, count in batches.items():
        for digest in batch:
            found[digest] += count
    return found


def _in_flight(entries: Sequence[Entry], deaths: Sequence[Death]) -> Counter[tuple[str, ...]]:
    """Count batches that were a process's last answer in the moment before it died: nobody can write so fast."""
    last = {entry.life: entry for entry in entries}
    found: Counter[tuple[str, ...]] = Counter()
    for entry in last.values():
        near = any(
            death.session == entry.session and death.struck - _MOMENT < entry.time < death.died + _ORPHANED
            for death in deaths
        )
        if entry.word == "answered" and near:
            found[entry.digests] += 1
    return found


def read_tables(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read results without their times, and labels, with NaN as text so that it equals itself."""
    import pyarrow.parquet as pq

    found = []
    for path in (RunFolder(run).results, RunFolder(run).labels):
        columns = pq.read_table(path).to_pydict()
        columns.pop("seconds", None)
        found.append(
            {
                key: ["NaN" if isinstance(value, float) and value != value else value for value in values]
                for key, values in columns.items()
            }
        )
    return found[0], found[1]
