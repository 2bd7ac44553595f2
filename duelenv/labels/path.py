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
from duelenv.labels.ledger import Ledger, Purpose
from duelenv.labels.open_rounds import OpenRounds
from duelenv.labels.pipeline import Pipeline, no_labels
from duelenv.labels.questions import Asked, Questions, comparison_id, request_id
from duelenv.labels.stage import Clock, Passing, Stage
from duelenv.oracles.base import Oracle, Preferences, Unanswered, ask
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
        budget: Labels that each replicate may ask for between two seeded resets; None for as many as there are rounds.

    Attributes:
        queries: Labels asked for since the last seeded reset, by replicate, int64 [R].
        evaluation_queries: Duels put to an oracle that costs, outside of rounds, since then; with a ledger, different
            ones.
        budget: As given.
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
        budget: int | None = None,
    ) -> None:
        self._rows, self._batch = rows, batch
        self._feedback = checks.one_of("feedback", feedback, FEEDBACK)
        self._pipeline = Pipeline(stages, rows, batch)
        self._questions = None if source is None else Questions(source)
        self._open = OpenRounds(empty, action_size)
        self._everybody = np.full(rows // batch, batch)
        self._undisturbed = source is None and not stages
        self._ledger: Ledger | None = None
        self._keeps_duels = False
        self.budget = budget
        self.queries = np.zeros(rows // batch, np.int64)
        self.evaluation_queries = 0
        self._root = 0
        self._coins = Coins(0, rows, feedback)

    @property
    def late(self) -> bool:
        """Whether a label can come in a later round than its own."""
        return self._questions is not None or self._pipeline.holds

    def keep(self, ledger: Ledger | None, *, duels: bool = True) -> None:
        """Write questions and answers into a ledger from now on, and take from it what it knows.

        Args:
            ledger: None for none.
            duels: Whether what the agent is told is kept as well.
        """
        self._ledger, self._keeps_duels = ledger, duels

    def __getstate__(self) -> dict[str, Any]:
        """Leave the ledger out: only one world writes it."""
        return self.__dict__ | {"_ledger": None}

    def affordable(self, asked: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
        """Return whose label can still be asked for, bool [N]; None for everybody's.

        What is left of a replicate's budget goes to its rows in order.

        Args:
            asked: Whose label is wanted, bool [N]; None for everybody's.
        """
        if self.budget is None:
            return asked
        left = self.budget - self.queries
        if asked is None and (left >= self._batch).all():
            return None
        wanted = np.ones((len(left), self._batch), np.bool_) if asked is None else asked.reshape(len(left), -1)
        return (wanted & (np.cumsum(wanted, axis=1) <= left[:, np.newaxis])).ravel()

    def spends_all(self, asked: NDArray[np.bool_] | None) -> bool:
        """Tell whether no replicate has anything left of its budget after a round that asks for these."""
        if self.budget is None:
            return False
        counts = self._everybody if asked is None else asked.reshape(-1, self._batch).sum(axis=1)
        return bool((self.queries + counts >= self.budget).all())

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

    def put(self, duels: Round, oracle: Oracle, texts: Callable[[NDArray[np.int64]], Texts]) -> Told:
        """Take a round through whose texts are shown to an oracle that answers at once.

        Args:
            duels: The round.
            oracle: Answers.
            texts: Prompts, first and second responses of some rows.

        Raises:
            Exception: Whatever the oracle raises. The round is as if it had not been played.
        """
        # A row that is not asked costs the oracle nothing.
        rows = np.arange(self._rows) if duels.asked is None else np.flatnonzero(duels.asked)
        win, tie = np.full(self._rows, np.nan), np.zeros(self._rows)
        if len(rows):
            answer = self._at_once(oracle, duels.number, "duel", texts(rows), rows.tolist())
            win[rows], tie[rows] = answer.win, answer.tie
        return self._tell(duels, Preferences(win, tie), [])

    def _at_once(
        self, oracle: Oracle, number: int, purpose: Purpose, texts: Texts, rows: Sequence[int] | None = None
    ) -> Preferences:
        """Return an oracle's answers; with a ledger, it is asked for those only that are not known from there.

        Args:
            oracle: Answers.
            number: The round.
            purpose: What for.
            texts: Prompts, first and second responses.
            rows: Where the duels are fought; None for comparisons, which belong to no row.
        """
        if self._ledger is None:
            return ask(oracle, *texts)
        words = list(zip(*texts, strict=True))
        if rows is None:
            every = [Request(comparison_id(*three), number, -1, *three) for three in words]
        else:
            every = [
                Request(request_id(self._root, number, row, *three), number, row, *three)
                for row, three in zip(rows, words, strict=True)
            ]
        requests = list({request.id: request for request in every}.values())  # a comparison may occur twice
        known = self._ledger.put(number, requests, purpose)
        unknown = [request for request in requests if request.id not in known]
        if unknown:
            try:
                fresh = ask(
                    oracle,
                    [request.prompt for request in unknown],
                    [request.first for request in unknown],
                    [request.second for request in unknown],
                )
            except Unanswered as error:
                told = [
                    answer
                    for answer, known in zip(_answers(unknown, error.preferences), error.answered, strict=True)
                    if known
                ]
                self._ledger.answer(number, told, close=False)
                raise
            answers = _answers(unknown, fresh)
            self._ledger.answer(number, answers, close=purpose == "duel")
            known |= {answer.id: answer for answer in answers}
        return Preferences(
            np.array([known[request.id].win for request in every], np.float64),
            np.array([known[request.id].tie for request in every], np.float64),
        )

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
            self._ledger,
        )
        answers = self._questions.answered(number, self._ledger, last=duels.last)
        win, tie = np.full(self._rows, np.nan), np.zeros(self._rows)
        for asked, answer in answers:
            if asked.request.round == number:
                win[asked.request.row], tie[asked.request.row] = answer.win, answer.tie
        return self._tell(duels, Preferences(win, tie), answers)

    def judge(self, oracle: Oracle, number: int, texts: Texts, *, costs: bool) -> Preferences:
        """Ask about duels that no agent fought, outside of rounds.

        With a ledger, the same comparison is put to an oracle that costs only once.

        Args:
            oracle: Answers at once.
            number: The round that comes next.
            texts: Prompts, first and second responses.
            costs: Whether its answers are counted, in `evaluation_queries`.
        """
        if not costs:
            return ask(oracle, *texts)
        answer = self._at_once(oracle, number, "evaluation", texts)
        if self._ledger is None:
            self.evaluation_queries += len(texts[0])
        else:
            self.evaluation_queries = self._ledger.evaluations(number)
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
            told = Told(labels, margin, self._open.nothing(duels.number), np.zeros(self._rows, np.bool_), {})
        else:
            told = self._disturb(duels, labels, margin, counts, answers)
        if self._ledger is not None and self._keeps_duels:
            self._ledger.tell(duels.number, duels.observation, actions, asked, told.labels, told.late)
        return told

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


def _answers(requests: Sequence[Request], preferences: Preferences) -> list[Answer]:
    """Collect what an oracle said of each request."""
    return [
        Answer(request.id, win, tie)
        for request, win, tie in zip(requests, preferences.win.tolist(), preferences.tie.tolist(), strict=True)
    ]
