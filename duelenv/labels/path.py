"""The one way of a label: asked for, decided by its coin, disturbed by stages, told to the agent. Knows no world.

Here, and nowhere else, queries are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from duelenv.ground import checks
from duelenv.labels.arrivals import Arrivals, Observation
from duelenv.labels.coins import FEEDBACK, Coins
from duelenv.labels.open_rounds import OpenRounds
from duelenv.labels.pipeline import Pipeline, no_labels
from duelenv.labels.questions import Asked, Questions, request_id
from duelenv.labels.stage import Clock, Passing, Stage
from duelenv.oracles.base import Oracle, Preferences, ask
from duelenv.oracles.sources import Answer, Request, Source

Texts = tuple[list[str], list[str], list[str]]
"""Prompts, first and second responses of some duels."""


class Round(NamedTuple):
    """One round of duels, as a world puts it to the path.

    Attributes:
        number: Of the round, from 0 at the last seeded reset.
        start: Number of the episode's first round.
        last: Whether it is the episode's last.
        observation: What was shown.
        actions: What was played, int64 [N, 2] or [N, 3].
        asked: Whose label is asked for, bool [N]; None for everybody's.
    """

    number: int
    start: int
    last: bool
    observation: Observation
    actions: NDArray[np.int64]
    asked: NDArray[np.bool_] | None


class Told(NamedTuple):
    """What leaves the path with a step.

    Attributes:
        labels: Of the round itself, float64 [N], NaN where none came.
        margin: P(first preferred) - P(second preferred), float64 [N], NaN where nobody was asked or answered.
        late: Labels of earlier rounds.
        pending: Rows of the round whose label may still come, bool [N].
        figures: What the stages say, for `info`.
    """

    labels: NDArray[np.float64]
    margin: NDArray[np.float64]
    late: Arrivals
    pending: NDArray[np.bool_]
    figures: dict[str, Any]


class LabelPath:
    """The labels of one world.

    Args:
        rows: N.
        batch: Rows of a replicate.
        feedback: "bernoulli" or "argmax".
        stages: Disturbances, in the order in which labels pass them; the path owns them.
        source: Who answers later; None where all answers are there at once.
        empty: An observation of no rows.
        action_size: 2, or 3 in selective worlds.

    Attributes:
        queries: Labels asked for since the last seeded reset, by replicate, int64 [R].
        evaluation_queries: Duels put to an oracle that costs, outside of rounds, since then.
    """

    def __init__(
        self,
        *,
        rows: int,
        batch: int,
        feedback: str,
        stages: Sequence[Stage],
        source: Source | None,
        empty: Observation,
        action_size: int,
    ) -> None:
        self._rows, self._batch = rows, batch
        self._feedback = checks.one_of("feedback", feedback, FEEDBACK)
        self._pipeline = Pipeline(stages, rows, batch)
        self._questions = None if source is None else Questions(source)
        self._open = OpenRounds(empty, action_size)
        self._everybody = np.full(rows // batch, batch)
        self._undisturbed = source is None and not stages
        self.queries = np.zeros(rows // batch, np.int64)
        self.evaluation_queries = 0
        self._root = 0
        self._coins = Coins(0, rows, feedback)

    @property
    def late(self) -> bool:
        """Whether a label can come in a later round than its own."""
        return self._questions is not None or self._pipeline.holds

    def restart(self, root: int) -> None:
        """Start anew after a seeded reset."""
        self._root = root
        self._coins = Coins(root, self._rows, self._feedback)
        self.queries = np.zeros_like(self.queries)
        self.evaluation_queries = 0
        if self._questions is not None:
            self._questions.restart()
        self._pipeline.restart(root)
        self._open.keep_only(())

    def start_episode(self, number: int) -> Arrivals:
        """Start an episode: what stages still hold is lost, what a source still owes is not.

        Returns:
            That nothing has arrived.
        """
        self._pipeline.forget()
        self._open.keep_only(self._owed())
        return self._open.nothing(number)

    def answered(self, duels: Round, preferences: Preferences) -> Told:
        """Take a round through whose answers are there at once.

        Args:
            duels: The round.
            preferences: Of all its rows, [N]; NaN where the oracle declined, anything where nobody asked.
        """
        return self._tell(duels, preferences, [])

    def requested(self, duels: Round, texts: Callable[[NDArray[np.int64]], Texts]) -> Told:
        """Take a round through whose answers a source gives in its own time.

        Args:
            duels: The round.
            texts: Prompts, first and second responses of some rows.

        Raises:
            Exception: Whatever the source raises. The round is as if it had not been played; playing it again is the
                same request.
        """
        assert self._questions is not None
        rows = np.arange(self._rows) if duels.asked is None else np.flatnonzero(duels.asked)
        number, swapped = duels.number, (duels.actions[rows, 0] > duels.actions[rows, 1]).tolist()
        coins, uniforms = self._coins.of(number)[rows].tolist(), self._pipeline.uniforms(number)[rows].tolist()
        self._questions.ask(
            number,
            [
                Asked(Request(request_id(self._root, number, row, *words), number, row, *words), *drawn)
                for row, drawn, *words in zip(
                    rows.tolist(), zip(swapped, coins, uniforms, strict=True), *texts(rows), strict=True
                )
            ],
        )
        answers = self._questions.answered()
        win, tie = np.full(self._rows, np.nan), np.zeros(self._rows)
        for asked, answer in answers:
            if asked.request.round == number:
                win[asked.request.row], tie[asked.request.row] = answer.win, answer.tie
        return self._tell(duels, Preferences(win, tie), answers)

    def judge(self, oracle: Oracle, texts: Texts, *, costs: bool) -> Preferences:
        """Ask about duels that no agent fought, outside of rounds.

        Args:
            oracle: Answers at once.
            texts: Prompts, first and second responses.
            costs: Whether its answers are counted, in `evaluation_queries`.
        """
        answer = ask(oracle, *texts)
        if costs:
            self.evaluation_queries += len(texts[0])
        return answer

    # From preferences to labels --------------------------------------------------------------------------------------

    def _tell(self, duels: Round, preferences: Preferences, answers: list[tuple[Asked, Answer]]) -> Told:
        actions, asked = duels.actions, duels.asked
        swapped = actions[:, 0] > actions[:, 1]
        labels = self._coins.label(preferences, self._coins.of(duels.number), swapped)
        margin = 2.0 * preferences.win + preferences.tie - 1.0
        counts = self._everybody
        if asked is not None:
            labels[~asked] = np.nan
            margin[~asked] = np.nan
            counts = asked.reshape(-1, self._batch).sum(axis=1)
        if self._undisturbed:
            self.queries += counts
            pending = np.zeros(self._rows, np.bool_)
            return Told(labels, margin, self._open.nothing(duels.number), pending, {})
        return self._disturb(duels, labels, margin, counts, answers)

    def _disturb(
        self,
        duels: Round,
        labels: NDArray[np.float64],
        margin: NDArray[np.float64],
        counts: NDArray[np.int64],
        answers: list[tuple[Asked, Answer]],
    ) -> Told:
        """Send what was answered through the stages, and keep the rows that are still open."""
        number = duels.number
        # Drawn now, and before anything changes: a value made later would be made under a later policy, and may fail.
        shown = dict(duels.observation) if self.late else {}
        uniforms = self._pipeline.uniforms(number)
        known = np.flatnonzero(~np.isnan(labels))
        fresh = Passing(np.full(len(known), number), known, labels[known], margin[known], uniforms[known])
        earlier = [(asked, answer) for asked, answer in answers if asked.request.round != number]
        decided = self._decided(earlier)
        declined = np.isnan(decided.label)
        before = self._pipeline.state_dict()
        try:
            leaving = self._pipeline.run(decided.take(~declined).then(fresh), Clock(number, duels.start, duels.last))
            figures = self._pipeline.figures()
            doomed = self._pipeline.doomed(uniforms)
        except BaseException:
            self._pipeline.load_state_dict(before)
            raise
        # From here on nothing fails, and the round has been played.
        self.queries += counts
        if self._questions is not None:
            self._questions.close(asked for asked, _ in answers)
        for past, row in zip(decided.round[declined].tolist(), decided.row[declined].tolist(), strict=True):
            self._open.drop(past, row)
        in_time = leaving.round == number
        told = np.full(self._rows, np.nan)
        told[leaving.row[in_time]] = leaving.label[in_time]
        late = leaving.take(~in_time)
        pending = np.zeros(self._rows, np.bool_)
        pending[[] if self._questions is None else self._questions.owed_of(number)] = True
        if self._pipeline.holds and not duels.last:
            pending[known] = True
        pending &= np.isnan(told) & ~doomed
        self._open.keep(number, pending, shown, duels.actions, np.repeat(counts, self._batch))
        arrivals = self._open.arrive(number, late.round, late.row, late.label)
        if duels.last:
            self._open.keep_only(self._owed())
        return Told(told, margin, arrivals, pending, figures)

    def _decided(self, earlier: list[tuple[Asked, Answer]]) -> Passing:
        """Return the labels that answers to earlier requests become, each by its own coin; NaN where declined."""
        if not earlier:
            return no_labels(self._pipeline.num_streams)
        win, tie = np.array([answer.win for _, answer in earlier]), np.array([answer.tie for _, answer in earlier])
        coins, swapped = (
            np.array([asked.coin for asked, _ in earlier]),
            np.array([asked.swapped for asked, _ in earlier]),
        )
        return Passing(
            np.array([asked.request.round for asked, _ in earlier]),
            np.array([asked.request.row for asked, _ in earlier]),
            self._coins.label(Preferences(win, tie), coins, swapped),
            2.0 * win + tie - 1.0,
            np.array([asked.uniforms for asked, _ in earlier]).reshape(len(earlier), self._pipeline.num_streams),
        )

    def _owed(self) -> list[tuple[int, int]]:
        """Return (round, row) of every request that the source has not answered."""
        return [] if self._questions is None else self._questions.owed()

    # Checkpoints -----------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return what is counted, open, owed and held; coins and the stages' draws follow from the root."""
        return {
            "queries": self.queries.copy(),
            "evaluation_queries": self.evaluation_queries,
            "open": self._open.state_dict(),
            "questions": None if self._questions is None else self._questions.state_dict(),
            "stages": self._pipeline.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken, after `restart` with the same root."""
        self.queries = np.array(state["queries"], np.int64)
        self.evaluation_queries = int(state["evaluation_queries"])
        self._open.load_state_dict(state["open"])
        if self._questions is not None:
            self._questions.load_state_dict(state["questions"])
        self._pipeline.load_state_dict(state["stages"])
