"""What was paid for, on disk before it is used: oracle answers and the label log. Not for results.

`Journal` stands between a world and its oracle and writes every answer down before it returns it. A cell that was
killed continues from its last checkpoint and meets the same questions again; the journal answers those itself, so that
no label is asked for, or paid, twice. `LabelLog` keeps every duel with its label.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from duelenv.labels import Arrivals
from duelenv.oracles.base import Oracle, Preferences, ask

__all__ = ["Journal", "LabelLog", "labels_table"]


def _whole_lines(path: Path) -> list[str]:
    """The complete lines of a file that may end in a half-written one, which is cut off on disk."""
    if not path.exists():
        return []
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        os.truncate(path, end)
    return content[:end].decode("utf-8").splitlines()


class Journal:
    """An oracle that remembers on disk what the inner one answered.

    Args:
        inner: The oracle that is asked.
        path: JSON Lines file, one line a call.

    Attributes:
        inner: The oracle that is asked; `duelenv.oracles.utility_of` looks here for the truth.
        calls: Calls so far; part of a checkpoint.
        asked: Duels that the inner oracle answered in this process.
    """

    def __init__(self, inner: Oracle, path: Path) -> None:
        self.inner = inner
        self.calls = 0
        self.asked = 0
        # The last line of a call wins: it is the one that the run went on with.
        entries = (json.loads(line) for line in _whole_lines(path))
        self._known: dict[int, dict[str, Any]] = {entry["call"]: entry for entry in entries}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream: IO[str] = path.open("a", encoding="utf-8")

    def __call__(self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str], /) -> Preferences:
        """The inner oracle's preferences of N duels, from disk where this very call was answered before."""
        question = {"prompts": list(prompts), "first": list(first), "second": list(second)}
        entry = self._known.pop(self.calls, None)
        if entry is None or any(entry[key] != value for key, value in question.items()):
            answer = ask(self.inner, prompts, first, second)
            self.asked += len(question["prompts"])
            entry = {
                "call": self.calls,
                **question,
                "win": answer.win.tolist(),
                "tie": answer.tie.tolist(),
            }
            self._stream.write(json.dumps(entry, ensure_ascii=False) + "\n")
            self._stream.flush()
        self.calls += 1
        return Preferences(np.asarray(entry["win"], dtype=np.float64), np.asarray(entry["tie"], dtype=np.float64))

    def close(self) -> None:
        """Closes the file."""
        self._stream.close()


class LabelLog:
    """Every duel with its label, one line a round; each text is written once, when it first appears.

    Args:
        path: JSON Lines file.
        length: Bytes of an earlier part to keep, as `length` said at the checkpoint; the rest is cut off.
    """

    def __init__(self, path: Path, length: int = 0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.truncate(path, length)
        self._numbers: dict[str, int] = {}
        with path.open(encoding="utf-8") as stream:
            for line in stream:
                for text in json.loads(line).get("texts", ()):
                    self._numbers[text] = len(self._numbers)
        self._stream: IO[bytes] = path.open("ab")

    @property
    def length(self) -> int:
        """Bytes written so far; part of a checkpoint."""
        return self._stream.tell()

    def write(
        self,
        step: int,
        observation: Mapping[str, Any],
        actions: NDArray[np.int64],
        labels: NDArray[np.float64],
        late: Arrivals | None = None,
    ) -> None:
        """Adds one round.

        Args:
            step: Number of the round, from 1.
            observation: What the agent saw; texts are taken from `prompt` and `responses` where it has them.
            actions: int64 [N, 2] or [N, 3].
            labels: float64 [N]; NaN where no label came.
            late: Labels of earlier rounds that came with this one.
        """
        rows = np.arange(len(actions))
        line: dict[str, Any] = {"step": step, "arms": actions[:, :2].tolist()}
        line["label"] = [None if np.isnan(label) else label for label in labels.tolist()]
        if late is not None and len(late.row):
            line["late"] = [(late.round + 1).tolist(), late.row.tolist(), late.label.tolist()]
        if "responses" in observation:
            responses = observation["responses"]
            texts = {
                "prompt": observation["prompt"],
                "first": responses[rows, actions[:, 0]],
                "second": responses[rows, actions[:, 1]],
            }
            new: list[str] = []
            for key, values in texts.items():
                line[key] = [self._number(str(value), new) for value in values]
            if new:
                line["texts"] = new
        self._stream.write(json.dumps(line, ensure_ascii=False).encode("utf-8") + b"\n")
        self._stream.flush()

    def _number(self, text: str, new: list[str]) -> int:
        number = self._numbers.get(text)
        if number is None:
            number = self._numbers[text] = len(self._numbers)
            new.append(text)
        return number

    def close(self) -> None:
        """Closes the file."""
        self._stream.close()


def labels_table(path: Path, agent: str, seeds: Sequence[int]) -> Any:
    """A label log as a table with one row per duel.

    Args:
        path: File that a `LabelLog` wrote.
        agent: Label of the agent.
        seeds: One seed per replicate; the rows of a round are shared out among them in order.

    Returns:
        A `pyarrow.Table` with agent, seed, step, row, first_arm, second_arm, prompt, first, second, label, source;
        texts are null in worlds without texts, `source` is "oracle" or, where nobody was asked, "none".
    """
    import pyarrow as pa

    texts: list[str] = []
    columns: dict[str, list[Any]] = {
        key: [] for key in ("seed", "step", "row", "first_arm", "second_arm", "prompt", "first", "second", "label")
    }
    starts: dict[int, int] = {}  # of each step's rows in the columns
    for raw in _whole_lines(path):
        line = json.loads(raw)
        texts.extend(line.get("texts", ()))
        count = len(line["label"])
        starts[line["step"]] = len(columns["label"])
        batch = count // len(seeds)
        columns["seed"].extend(seeds[row // batch] for row in range(count))
        columns["step"].extend([line["step"]] * count)
        columns["row"].extend(range(count))
        columns["first_arm"].extend(pair[0] for pair in line["arms"])
        columns["second_arm"].extend(pair[1] for pair in line["arms"])
        columns["label"].extend(line["label"])
        for key in ("prompt", "first", "second"):
            columns[key].extend(line.get(key, [None] * count))
        for step, row, label in zip(*line.get("late", ((), (), ())), strict=True):
            columns["label"][starts[step] + row] = label  # where it was asked for
    dictionary = pa.array(texts, pa.string())
    total = len(columns["label"])

    def words(key: str) -> Any:
        return pa.DictionaryArray.from_arrays(pa.array(columns[key], pa.int32()), dictionary)

    return pa.table(
        {
            "agent": pa.array([agent] * total, pa.string()),
            "seed": pa.array(columns["seed"], pa.int64()),
            "step": pa.array(columns["step"], pa.int64()),
            "row": pa.array(columns["row"], pa.int64()),
            "first_arm": pa.array(columns["first_arm"], pa.int32()),
            "second_arm": pa.array(columns["second_arm"], pa.int32()),
            "prompt": words("prompt"),
            "first": words("first"),
            "second": words("second"),
            "label": pa.array(columns["label"], pa.float64()),
            "source": pa.array(["none" if label is None else "oracle" for label in columns["label"]], pa.string()),
        }
    )
