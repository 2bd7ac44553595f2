"""One duel as text, `render_mode="ansi"`: what the agent saw, what it chose, what it was told, and what that cost.

A text is shown and never obeyed: what a terminal would act on is made visible. Not for results or figures of runs.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from duelenv.core import Labels
from duelenv.ground import checks
from duelenv.ground.terminal import printable

__all__ = ["RENDER_METADATA", "Duel", "candidate_lines", "check_render_mode", "duel_lines", "read_shown"]

#: Of `metadata`, for every world. Gymnasium asks for a rate wherever something can be rendered.
RENDER_METADATA: Final[Mapping[str, Any]] = {"render_modes": ["ansi"], "render_fps": 4}

#: Features printed of a candidate.
_FEATURES: Final = 6
_WIDTH: Final = 100
#: Lines printed of one text.
_LINES: Final = 6
_VERDICTS: Final = {1.0: "the first is preferred", 0.0: "the second is preferred", 0.5: "a declared tie"}


def check_render_mode(render_mode: str | None) -> str | None:
    """Return a render mode that the worlds have.

    Raises:
        UserError: It is another.
    """
    return None if render_mode is None else checks.one_of("render_mode", render_mode, RENDER_METADATA["render_modes"])


class Duel(NamedTuple):
    """The last round of a world, as far as it is shown.

    Attributes:
        number: Of the round, from 0 at the last seeded reset.
        observation: What `read_shown` read before the duel.
        actions: What was played, int64 [N, 2] or [N, 3]; None before the first duel.
        labels: What the agent was told, [N].
        regret: By name, [N] each.
    """

    number: int
    observation: Mapping[str, NDArray[Any]]
    actions: NDArray[np.int64] | None = None
    labels: Labels | None = None
    regret: Mapping[str, NDArray[np.float64]] = {}

    def text(self, row: int) -> str:
        """Return one row's duel, without a line end."""
        shown = self.observation
        candidates = shown["responses" if "responses" in shown else "features"].shape[1]
        lines = [f"round {self.number}, {candidates} candidates", "", *candidate_lines(shown, row), ""]
        if self.actions is None or self.labels is None:
            lines.append("duel     none yet")
        else:
            first, second = (int(arm) for arm in self.actions[row, :2])
            regret = {name: float(values[row]) for name, values in self.regret.items()}
            lines += duel_lines(first, second, float(self.labels[row]), regret)
        return "\n".join(printable(line) for line in lines)


def read_shown(observation: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return the part of an observation that is rendered, made now if it is lazy: texts, or features where none are."""
    names = ("prompt", "responses") if "responses" in observation else ("features",)
    return {name: observation[name] for name in names}


def duel_lines(
    first: int, second: int, label: float, regret: Mapping[str, float], truth: Sequence[str] = ()
) -> list[str]:
    """Return what became of a duel.

    Args:
        first: The first candidate.
        second: The second.
        label: In [0, 1], NaN where none came.
        regret: By name.
        truth: Lines about the truth, for people.
    """
    lines = [f"duel     {first} against {second}", f"label    {label:g}, {_VERDICTS.get(label, 'no label')}", *truth]
    if regret:
        lines.append("regret   " + ", ".join(f"{name} {value:.3f}" for name, value in regret.items()))
    else:
        lines.append("regret   unknown: the oracle has no utility")
    return lines


def candidate_lines(observation: Mapping[str, Any], row: int) -> list[str]:
    """Return a row's prompt and responses; or its candidates' first features and their norms, where it has no texts."""
    if "responses" in observation:
        lines = ["prompt", *_wrapped(str(observation["prompt"][row]), "  ")]
        for arm, response in enumerate(observation["responses"][row]):
            lines += _wrapped(str(response) or "(empty)", f"{arm:>3}  ")
        return lines
    features = np.asarray(observation["features"][row])
    lines = [f"features of each candidate, {features.shape[-1]} numbers"]
    for arm, vector in enumerate(features):
        shown = " ".join(f"{value:+.2f}" for value in vector[:_FEATURES])
        more = " ..." if len(vector) > _FEATURES else ""
        lines.append(f"{arm:>3}  {shown}{more}  norm {np.linalg.norm(vector):.2f}")
    return lines


def _wrapped(text: str, indent: str) -> list[str]:
    """Return a text in lines of limited width; its first few lines if it is long."""
    # Before it is split: Python ends lines at control characters as well, which would vanish unseen.
    text = printable(text.replace("\r\n", "\n").expandtabs(), newlines=True)
    lines = [
        piece
        for paragraph in text.splitlines() or [""]
        for piece in textwrap.wrap(
            paragraph, _WIDTH, initial_indent=" " * len(indent), subsequent_indent=" " * len(indent)
        )
    ]
    lines = lines or [""]
    shown = lines[:_LINES] + ([" " * len(indent) + "..."] if len(lines) > _LINES else [])
    return [indent + shown[0].lstrip(), *shown[1:]]
