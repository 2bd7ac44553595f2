"""The judge as an oracle: duels are shown in one or both orders, and verdicts become preferences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from duelenv.ground.errors import UserError
from duelenv.oracles.base import Preferences, Unanswered
from duelenv.oracles.judge.asking import Asking, Batch
from duelenv.oracles.judge.orders import Shown, drawn, order_of, position, together, turned
from duelenv.oracles.judge.verdicts import Verdict
from duelenv.oracles.services.figures import Figures
from duelenv.oracles.services.retrying import pause_asked_for
from duelenv.oracles.services.spending import Cost


class Judge:
    """A language model that compares two responses.

    A request that fails is tried again alone; verdicts are kept as they come. Use `make_judge`, which reads settings.

    Args:
        asking: Gets its verdicts.
        order: One of `orders.ORDERS`.
        bias_share: Share of duels that are shown in both orders to measure position bias, where `order` is not "both".
        figures: Where it notes what it observes of itself.
        name: What reports call it.
    """

    def __init__(
        self,
        asking: Asking,
        *,
        order: str,
        bias_share: float,
        figures: Figures,
        name: str,
    ) -> None:
        self.asking, self.order, self.bias_share, self.name = asking, order, bias_share, name
        self._figures = figures

    def __call__(self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str], /) -> Preferences:
        """Judge N duels; NaN where the model declines to judge.

        Equal responses are a tie, and nobody is asked.

        Raises:
            Unanswered: The service failed, refused for good, or the purse is empty; with the answers that there are.
            UserError: The model has given no verdict of the first duels at all.
        """
        duels = [Shown(*texts) for texts in zip(prompts, first, second, strict=True)]
        batch = self.asking.about([one for duel in duels for one in self._ways(duel)])
        win, tie, answered = np.full(len(duels), np.nan), np.zeros(len(duels)), np.zeros(len(duels), np.bool_)
        for place, duel in enumerate(duels):
            answer = self._answer(duel, batch)
            answered[place] = answer is not None
            if isinstance(answer, Verdict):
                win[place], tie[place] = answer.win, answer.tie
        self._note(duels, batch, answered, win)
        if batch.failure is not None and not answered.all():
            raise Unanswered(
                self._sentence(batch.failure, answered), Preferences(win, tie), answered
            ) from batch.failure
        return Preferences(win, tie)

    def shown_once(self) -> Judge:
        """Make the same judge, that is shown each duel once and as it is; for probes of it."""
        return Judge(self.asking, order="fixed", bias_share=0.0, figures=Figures(), name=self.name)

    @property
    def spent(self) -> Cost:
        """What was spent from the judge's purse, by all who share it, with what is under way."""
        return self.asking.endpoint.spent

    def figures(self) -> dict[str, float]:
        """Average over all duels of the run, or of this judge outside of runs.

        `declined`: share of duels that were not judged. `words`: share of those judged that were so without
        probabilities. Where both orders were shown, `turned`: share of duels whose verdict turned with the order;
        `shift`: how much likelier a response is preferred for being shown first.
        """
        return self._figures.means(self.name)

    def most(self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str]) -> Cost:
        """Find the most that duels may cost if each request is answered at once; nothing is sent."""
        duels = [Shown(*texts) for texts in zip(prompts, first, second, strict=True)]
        ways = {one for duel in duels for one in self._ways(duel)}
        return sum((self.asking.most(way) for way in ways), Cost())

    # Duels and requests ----------------------------------------------------------------------------------------------

    def _ways(self, duel: Shown) -> list[Shown]:
        """List the orders in which a duel is shown."""
        if duel.first == duel.second:
            return []
        shown = order_of(self.order, duel)
        # The upper end of the draw: the lower half decides the order.
        both = self.order == "both" or (2.0 * drawn(duel)) % 1.0 < self.bias_share
        return [shown, shown.turned] if both else [shown]

    def _shown(self, duel: Shown) -> list[Shown]:
        """Keep those of its orders that make the answer."""
        return self._ways(duel)[: 2 if self.order == "both" else 1]

    def _answer(self, duel: Shown, batch: Batch) -> Verdict | Exception | None:
        """Find what is said of a duel: a verdict, why it was declined, or nothing yet."""
        if duel.first == duel.second:
            return Verdict(0.0, 1.0, said=True)
        ways = self._shown(duel)
        digests = [self.asking.digest(way) for way in ways]
        for digest in digests:
            if digest in batch.declined:
                return batch.declined[digest]
        if not all(digest in batch.verdicts for digest in digests):
            return None
        said = [self._about_first(duel, way, batch) for way in ways]
        return said[0] if len(said) == 1 else together(said[0], said[1])

    def _about_first(self, duel: Shown, way: Shown, batch: Batch) -> Verdict:
        verdict = batch.verdicts[self.asking.digest(way)]
        return verdict if way == duel else turned(verdict)

    # What is told ----------------------------------------------------------------------------------------------------

    def _note(
        self, duels: Sequence[Shown], batch: Batch, answered: NDArray[np.bool_], win: NDArray[np.float64]
    ) -> None:
        noted: dict[str, dict[bytes, float]] = {"declined": {}, "words": {}, "turned": {}, "shift": {}}
        for duel, known, value in zip(duels, answered.tolist(), win.tolist(), strict=True):
            ways = self._ways(duel)
            if not ways:
                continue
            # The same for both orders of a duel.
            key = min(self.asking.digest(duel), self.asking.digest(duel.turned))
            if known:
                noted["declined"][key] = float(np.isnan(value))
                if not np.isnan(value):
                    noted["words"][key] = float(
                        all(batch.verdicts[self.asking.digest(way)].said for way in self._shown(duel))
                    )
            if len(ways) == 2 and all(self.asking.digest(way) in batch.verdicts for way in ways):
                found = position(*(self._about_first(ways[0], way, batch) for way in ways))
                noted["turned"][key], noted["shift"][key] = found
        for name, values in noted.items():
            self._figures.note(self.name, name, values)

    def _sentence(self, failure: Exception, answered: NDArray[np.bool_]) -> str:
        """Say what happened, and what to do."""
        count = f"{int(answered.sum())} of {len(answered)} duels of the batch are answered and kept"
        endpoint = self.asking.endpoint
        said = endpoint.clean(str(failure) or type(failure).__name__)
        if isinstance(failure, UserError):
            return f"{said} ({count})"
        pause = pause_asked_for(failure)
        wait = "" if pause is None else f" and asks to wait for {pause:.0f} s"
        return (
            f"the judge {endpoint.model!r} at {endpoint.url!r} does not answer within its patience{wait} "
            f"({said}; {count}); the same command goes on"
        )
