"""A run as an object: its tables, its figures, and its folder. Plays nothing and computes no statistics of its own."""

from __future__ import annotations

import html
import shutil
import weakref
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.figures.panels import as_bytes
from duelenv.experiments.figures.plots import draw_curves, metric_against_labels
from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.interactive.frames import as_frame, check_frame, comparisons, finals, regrets
from duelenv.experiments.results.measurements import Results
from duelenv.experiments.results.metrics import check_measured
from duelenv.experiments.results.provenance import Provenance, provenance_of
from duelenv.experiments.tables.regret import regret_table, tables
from duelenv.ground.checks import choices
from duelenv.ground.errors import UserError
from duelenv.ground.terminal import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Run"]


class Run:
    """The results of a run folder, made by `duelenv.experiments.run` or `open`.

    Tables are Arrow tables, or data frames with `frame="pandas"`. All are of what was finished when it was made.

    Args:
        folder: A run folder with at least one finished cell.
        frame: "arrow" or "pandas".
        temporary: What to delete when the run is closed or nothing refers to it: a directory that holds the folder.

    Raises:
        UserError: It is no run folder, nothing is finished in it, or pandas is missing.
    """

    def __init__(self, folder: Path | str, *, frame: str = "arrow", temporary: Path | None = None):
        self._frame = check_frame(frame)
        self.folder = Path(folder)
        self.results = Results(self.folder)
        self._deletion = None if temporary is None else weakref.finalize(self, shutil.rmtree, temporary, True)

    @property
    def config(self) -> RunConfig:
        """The run's settings."""
        return self.results.config

    @property
    def agents(self) -> list[str]:
        """Labels of the agents with results, in the config's order."""
        return list(self.results.agents)

    @property
    def metric(self) -> str:
        """The metric that agents are compared by."""
        return self.results.primary

    @property
    def metrics(self) -> list[str]:
        """All columns of `curves` that were measured or counted."""
        return self.results.metrics

    # Tables ----------------------------------------------------------------------------------------------------------

    @cached_property
    def curves(self) -> Any:
        """Every measurement: `agent`, `seed`, `step`, `queries` (labels so far), then a column for each metric."""
        return as_frame(self.results.table(), self._frame)

    @cached_property
    def final(self) -> Any:
        """A row for each agent as it ended: means over seeds, `NAME_low` and `NAME_high` of 95 % t-intervals.

        Columns: `world`, `agent`, `seeds`, the metric, the others that tables show, `labels`, `gradient_steps`,
        `seconds`. Rules that ask for no duel stand in brackets.
        """
        return as_frame(finals(self.results), self._frame)

    @cached_property
    def comparisons(self) -> Any:
        """A row for each agent but the baseline: its difference to that in the metric, paired by seed.

        Columns: `world`, `agent`, `baseline`, `metric`, `difference`, `difference_low`, `difference_high`, `seeds`,
        `p_value` (Student's t), `corrected_p_value` (of the agents together, by Holm), `verdict`, and `turns_without`,
        the seeds without any one of which that would be the other.
        """
        return as_frame(comparisons(self.results), self._frame)

    @cached_property
    def regret(self) -> Any:
        """A row for each agent: cumulative regret after the last round, median, 95th percentile, log-log slope.

        Raises:
            UserError: The truth is not known, or a policy is trained: then `curves` has what is known of it.
        """
        table = regret_table(self.results)
        if table is None:
            raise UserError(
                f"The run {self.config.name!r} has no table of regret, which is of worlds without a policy whose truth "
                "is known: look at the columns of '.curves' that begin with 'regret_'"
            )
        return as_frame(regrets(table), self._frame)

    @cached_property
    def duels(self) -> Any:
        """Every duel with its label, as `duelenv labels RUN --export` writes them.

        Raises:
            UserError: None were kept.
        """
        import pyarrow.parquet as pq

        path = RunFolder(self.folder).labels
        if not path.is_file():
            raise UserError(f"The run {self.config.name!r} kept no duels: run it with label_log=True")
        return as_frame(pq.read_table(path), self._frame)

    @property
    def provenance(self) -> Provenance:
        """On what it was played: processors, threads, versions, commits, commands; cautions where these are mixed."""
        return provenance_of(RunFolder(self.folder), self.config)

    # Figures ---------------------------------------------------------------------------------------------------------

    def plot(
        self,
        metric: str | None = None,
        *,
        x: str = "queries",
        agents: Sequence[str] | None = None,
        ax: Axes | None = None,
    ) -> Figure:
        """Draw a metric of every agent, mean and 95 % t-interval over seeds.

        Args:
            metric: A column of `curves`; what agents are compared by if absent.
            x: The column along the axis, such as "queries" (labels), "step", "gradient_steps", "seconds" or "kl".
            agents: Labels of those to draw; all if absent.
            ax: Axes to draw into, in place of a figure of its own with a panel for each world.

        Returns:
            The figure, which a notebook shows and `savefig` writes.

        Raises:
            UserError: An unknown metric or agent, or several worlds for one `ax`.
        """
        metric = self.metric if metric is None else metric
        check_measured(metric, self.metrics)
        if x != "step" and x not in self.metrics:
            raise UserError(f"x={x!r} was not measured: {choices(x, ['step', *self.metrics])}")
        chosen = self.results if agents is None else self.results.only([agents] if isinstance(agents, str) else agents)
        if ax is None:
            return _shown_in_notebooks(metric_against_labels(chosen, metric, x=x))
        draw_curves(ax, chosen, metric, x=x)
        figure: Any = ax.figure
        return figure

    def report(self) -> Path:
        """Write `report.html`, tables and figures into the folder; the page's path."""
        from duelenv.experiments.report.page import write_report

        return write_report(self.folder)

    # Its folder, and what a notebook shows ---------------------------------------------------------------------------

    def close(self) -> None:
        """Delete the folder if it is a temporary one; tables that were read stay."""
        if self._deletion is not None:
            self._deletion()

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        seeds = len({seed for agent in self.agents for seed in self.results.seeds(agent)})
        return f"<Run {self.config.name!r}: {', '.join(self.agents)}; {seeds} seeds; in {str(self.folder)!r}>"

    def __str__(self) -> str:
        """Write the tables that answer the run's question."""
        return "\n\n".join(f"{table.text()}\n\n{printable(table.caption)}" for table in tables(self.results))

    def _repr_html_(self) -> str:
        return "".join(_as_html(table) for table in tables(self.results))


def _shown_in_notebooks(figure: Figure) -> Figure:
    """Let IPython show a figure of its own: it knows only those of pyplot, which may not be loaded."""
    figure._repr_png_ = lambda: as_bytes(figure, "png")  # type: ignore[attr-defined]
    return figure


def _as_html(table: Any) -> str:
    """Write a table as plain HTML, in whose cells nothing is obeyed."""

    def row(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(printable(cell))}</{tag}>" for cell in cells) + "</tr>"

    title = f"<h4>{html.escape(printable(table.title))}</h4>" if table.title else ""
    body = "".join(row("td", cells) for cells in table.cells())
    return (
        f"{title}<table><thead>{row('th', table.header())}</thead><tbody>{body}</tbody></table>"
        f"<p>{html.escape(printable(table.caption))}</p>"
    )
