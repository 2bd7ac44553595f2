"""What is in each file of a run folder, as data: for the documentation, and for whoever reads one elsewhere.

Nothing is read or written by it. A test plays a run and compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

__all__ = ["FILES", "Column", "FileSchema"]


@dataclass(frozen=True)
class Column:
    """A column of a table, or a key of a JSON object."""

    kind: str
    """Its type, as Arrow, JSON or SQLite call it."""
    meaning: str
    """What it holds."""


@dataclass(frozen=True)
class FileSchema:
    """A kind of file."""

    path: str
    """Within the run folder; CELL and FILE stand for names."""
    form: str
    """`JSON`, `JSON lines`, `Parquet`, `CSV`, `SQLite`, `YAML`, `text`, `pictures`, `NumPy` or `folder`."""
    about: str
    """What it is for."""
    columns: Mapping[str, Column] = field(default_factory=dict)
    """Columns or keys; of SQLite `table.column`. METRIC stands for the metric by which the run compares agents."""
    sealed: bool = False
    """Whether a key `seal` ends it, the SHA-256 of the rest, by which damage is noticed."""
    others: str = ""
    """What further columns there may be."""


def _columns(kind: str, **meanings: str) -> dict[str, Column]:
    return {name: Column(kind, meaning) for name, meaning in meanings.items()}


def _interval(name: str, meaning: str) -> dict[str, Column]:
    """Describe the four columns of a mean over seeds."""
    return {
        f"{name}_mean": Column("number", meaning),
        f"{name}_low": Column("number", "Where its 95 % t-interval begins; NaN for fewer than two seeds."),
        f"{name}_high": Column("number", "Where it ends."),
        f"{name}_seeds": Column("number", "Seeds behind it."),
    }


_MACHINE: Final = {
    **_columns("text", python="Version of Python.", processor="Name of the processor."),
    "cores": Column("number", "Processor cores of the machine."),
    "torch_threads": Column("number", "Threads of torch; null where it was not loaded."),
    "torch_instructions": Column("text", "Instructions that torch chose, such as AVX2; null where it was not loaded."),
    "omp_num_threads": Column("text", "The variable OMP_NUM_THREADS; null where it was not set."),
    "blas_threads": Column("number", "Threads of the BLAS that NumPy calls; null where nobody knows."),
    "blas_kernels": Column("text", "Its name and kernels, such as openblas Haswell; null where nobody knows."),
    "versions": Column("object", "Version of each package that matters, by name."),
}

_STARTED: Final = {
    **_MACHINE,
    **_columns(
        "text",
        platform="Operating system.",
        started="When, in UTC, as 2026-01-31T12:00:00Z.",
        command="The command, as it was typed.",
        commit="Commit of the current directory's repository; null where it is none.",
    ),
    "dirty": Column("true / false", "Whether anything was changed since that commit; null where nobody knows."),
    "source_commit": Column("text", "Commit of this package's repository; null where it was installed."),
    "source_dirty": Column("true / false", "Whether anything was changed since that one; null where nobody knows."),
    "earlier": Column("list", "The earlier starts of this run, the same keys each."),
}

_MEASURED: Final = {
    "agent": Column("string", "Label of the agent in the config."),
    "seed": Column("int64", "Seed of the replicate."),
    "step": Column("int64", "Rounds played before the measurement; 0 is before the first."),
    "queries": Column("int64", "Labels that this seed had asked for by then."),
    "gradient_steps": Column("int64", "Optimiser steps that had been taken on the policy."),
    "seconds": Column("double", "Time of playing so far, without evaluations."),
}

_LABELS: Final = {
    "agent": Column("string", "Label of the agent in the config."),
    "seed": Column("int64", "Seed of the replicate."),
    "step": Column("int64", "Round of the duel, counted from 1."),
    "row": Column("int64", "Row of the world in which it was played."),
    "first_arm": Column("int32", "Number of the first candidate among the round's."),
    "second_arm": Column("int32", "Number of the second."),
    "prompt": Column("dictionary of string", "The prompt; null in worlds without texts."),
    "first": Column("dictionary of string", "The first response."),
    "second": Column("dictionary of string", "The second response."),
    "label": Column("double", "What the agent was told: 1 the first, 0 the second, 0.5 a tie; null for nothing."),
    "source": Column("string", '"oracle"; "none" where nobody was asked, or nobody answered.'),
    "told_step": Column(
        "int64", "Round in which the agent was told, counted from 1; later than `step` for late labels."
    ),
    "win": Column("double", "What the oracle said: the probability that the first is preferred."),
    "tie": Column("double", "What it said of a tie: its probability."),
    "id": Column("string", "Name of the question; the same question always has the same."),
}

_LEDGER: Final = {
    "meta.name": Column("", "What is said of the ledger: `cell`, the identity of its cell."),
    "meta.value": Column("", "Its value."),
    "texts.number": Column("", "Number of a text, by which the other tables name it."),
    "texts.text": Column("", "The text."),
    "texts.digest": Column("", "CRC-32 of the text, for looking it up."),
    "requests.id": Column("", "Name of a question; written before it is asked."),
    "requests.purpose": Column("", "`duel`, or what an evaluation asks."),
    "requests.round": Column("", "Round, counted from 0."),
    "requests.row": Column("", "Row of the world."),
    "requests.prompt": Column("", "Number of the prompt's text."),
    "requests.first": Column("", "Number of the first response's."),
    "requests.second": Column("", "Number of the second response's."),
    "requests.times": Column("", "How often it was put to the oracle: more than once after a death."),
    "requests.superseded": Column("", "1 where the round was played again with other texts."),
    "answers.id": Column("", "The question that was answered."),
    "answers.round": Column("", "Round in which the answer came."),
    "answers.win": Column("", "Probability that the first is preferred; null where the oracle declined."),
    "answers.tie": Column("", "Probability of a tie."),
    "rounds.number": Column("", "A round that was played to its end."),
    "duels.round": Column("", "Round of a duel."),
    "duels.row": Column("", "Its row."),
    "duels.first_arm": Column("", "The first candidate's number."),
    "duels.second_arm": Column("", "The second's."),
    "duels.prompt": Column("", "Number of the prompt's text."),
    "duels.first": Column("", "Number of the first response's."),
    "duels.second": Column("", "Number of the second response's."),
    "duels.asked": Column("", "1 where a label was asked for."),
    "duels.label": Column("", "What the agent was told; null for nothing (yet)."),
    "duels.told": Column("", "Round in which it was told."),
}

_AGENT: Final = {"agent": Column("text", "Name of the agent; in brackets a rule that asks for nothing.")}

_DIFFERENCE: Final = _interval(
    "difference", "Mean difference to the baseline in METRIC, paired by seed, not corrected; empty for the baseline."
)

_TURNS: Final = {
    "difference_turns_without": Column(
        "text", "Seeds, apart by spaces, without any one of which the verdict would be the other."
    )
}

_TABLE: Final = {
    **_AGENT,
    **_interval("labels", "Labels of a seed."),
    **_interval("gradient_steps", "Optimiser steps on the policy."),
    **_interval("METRIC", "What agents are compared by, at the end."),
    **_DIFFERENCE,
    **_interval(
        "peer_difference",
        "The same to the variant of the baseline that took as many gradient steps; empty where there is none.",
    ),
    **_interval("seconds", "Time of playing, without evaluations."),
    **_TURNS,
}

_REGRET: Final = {
    **_AGENT,
    **_interval("METRIC", "Cumulative regret after the last round, `regret_NOTION`."),
    **_DIFFERENCE,
    **_interval("simple_regret", "Simple regret after the last round."),
    "median": Column("number", "Median over replicates of the cumulative regret."),
    "percentile_95": Column("number", "Its 95th percentile over replicates."),
    "slope": Column("number", "Growth of its mean in log-log coordinates over the last half of the rounds."),
    "slope_low": Column("number", "Where the slope's 95 % bootstrap interval over replicates begins."),
    "slope_high": Column("number", "Where it ends."),
    "microseconds_per_duel": Column("number", "Time of a duel, world and agent together."),
    "leads": Column("0 / 1", "1 for the least mean, and for those not shown to be above it."),
    **_TURNS,
}

_GAINS: Final = {
    **_AGENT,
    "labels": Column("number", "Labels of a seed, as in `report_at`; the last is the end."),
    **_interval("METRIC", "What agents are compared by, at so many labels."),
    **_DIFFERENCE,
    **_TURNS,
}

_TARGETS: Final = {
    **_AGENT,
    "labels_value": Column(
        "number", "Labels of a seed until the mean is for good at 90 % of the baseline's gain; inf for never."
    ),
    "labels_low": Column("number", "Where its 95 % bootstrap interval over seeds begins."),
    "labels_high": Column("number", "Where it ends."),
    "ratio_value": Column("number", "Labels of the baseline for each of the agent's; empty for the baseline."),
    "ratio_low": Column("number", "Where its interval begins."),
    "ratio_high": Column("number", "Where it ends."),
    "never": Column("number", "Share of the bootstrap's draws in which the agent does not get there."),
}

#: Of a table that has columns for some metrics alone.
_METRICS: Final = "`_mean`, `_low`, `_high` and `_seeds` of each of these of which any agent has more than 0: "

#: Every file that a run may leave.
FILES: Final[tuple[FileSchema, ...]] = (
    FileSchema(
        "run.json",
        "JSON",
        "What the run is; by it a folder is told to belong to a config.",
        {
            "form": Column("number", "Version of this layout."),
            "settings": Column("object", "The settings that decide the results."),
            "contents": Column("object", "SHA-256 of each file that the settings name, by the setting."),
            "config": Column("object", "The whole resolved config."),
        },
        sealed=True,
    ),
    FileSchema(
        "config.yaml", "YAML", "The resolved config, to be read and to be run elsewhere; see [Config](config.md)."
    ),
    FileSchema("environment.json", "JSON", "What the run ran on, at its last start and at the earlier ones.", _STARTED),
    FileSchema(
        "results.parquet",
        "Parquet",
        "Every measurement of all finished cells, a row for each agent, seed and evaluation.",
        _MEASURED,
        others="A column for each metric that the world measures, and for each figure that an agent "
        "returned from `update`, marked in the schema by the metadata `source: agent`; null where none was measured.",
    ),
    FileSchema("labels.parquet", "Parquet", "Every duel of all finished cells, where duels are kept.", _LABELS),
    FileSchema("report.html", "text", "The report, one file that needs no other."),
    FileSchema(
        "table.csv",
        "CSV",
        "The final table, a row for each agent. Where agents met several worlds, `table-WORLD.csv` for each.",
        _TABLE,
        others="The same four columns for each further metric of the table. Of a run that is compared by cumulative "
        "regret, `table.csv` has the columns of `regret.csv`.",
    ),
    FileSchema(
        "regret.csv",
        "CSV",
        "Cumulative regret where it is exact and seeds are replicates, a row for each agent.",
        _REGRET,
    ),
    FileSchema(
        "gains.csv",
        "CSV",
        "With `report_at`, a row for each agent and number of labels; `gains-WORLD.csv` where there are several.",
        _GAINS,
    ),
    FileSchema(
        "targets.csv",
        "CSV",
        "Labels to the same height, where the baseline is shown to gain and there are at least 2 seeds and 4 "
        "evaluations; `targets-WORLD.csv` where there are several worlds.",
        _TARGETS,
    ),
    FileSchema(
        "beliefs.csv",
        "CSV",
        "How wrong beliefs were at the end, a row for each agent.",
        _AGENT,
        others=f"{_METRICS}`belief_calibration`, `belief_calibration_off`, `belief_log_loss`, `belief_log_loss_off`.",
    ),
    FileSchema(
        "informative.csv",
        "CSV",
        "Duels that told something, a row for each agent.",
        _AGENT,
        others=f"{_METRICS}`informative_duels`, `first_informative_label`, `third_informative_label`, "
        "`duel_certainty`.",
    ),
    FileSchema(
        "costs.csv",
        "CSV",
        "What was spent, a row for each agent.",
        _AGENT,
        others=f"{_METRICS}`queries`, `evaluation_queries`, `unanswered`, `gradient_steps`, `seconds`.",
    ),
    FileSchema("TABLE.md", "text", "Each of these tables as Markdown, with words where the CSV has numbers."),
    FileSchema(
        "figures/NAME.svg, NAME.png",
        "pictures",
        "NAME is a metric over labels (`win_rate`, `simple_regret`, `belief_calibration`, ...), `regret_NOTION` and "
        "`regret_NOTION_loglog` over duels, `win_rate_against_kl`, or `differences`, with `-WORLD` where there are "
        "several worlds: all differences to the baseline with their intervals.",
    ),
    FileSchema(
        "spending.json",
        "JSON",
        "What oracles had cost when the report was written, where any costs something.",
        {
            "tokens": Column("number", "Tokens that were read and written."),
            "money": Column("number", "Money, in the currency of the oracles' prices."),
            "tokens_limit": Column("number", "`budget.tokens`; null for none."),
            "money_limit": Column("number", "`budget.money`; null for none."),
        },
    ),
    FileSchema(
        "purse.sqlite",
        "SQLite",
        "What oracles have spent, kept while they spend it.",
        {
            "costs.one": Column("INTEGER", "1: there is one row."),
            "costs.tokens": Column("INTEGER", "Tokens, with what is set aside for answers on their way."),
            "costs.money": Column("REAL", "Money, likewise."),
        },
    ),
    FileSchema(
        "spent.sqlite",
        "SQLite",
        "How many answers each cell has asked for, where the config has `budget.run`.",
        {
            "cells.name": Column("", "The cell."),
            "cells.spent": Column("", "Answers."),
        },
    ),
    FileSchema("run.lock", "JSON", "Held by the process that runs the folder, with its number and machine."),
    FileSchema(
        "oracles/FILE", "folder", "What oracles keep: verdicts of a judge, the desk of `people`, served scores."
    ),
    FileSchema("trackers/FILE", "folder", "What trackers keep, and which step each was told last."),
    FileSchema(
        "cells/CELL/cell.json",
        "JSON",
        "Which cell of which run this is.",
        {"cell": Column("text", "Its identity, a SHA-256.")},
        sealed=True,
    ),
    FileSchema("cells/CELL/cell.lock", "text", "Held by the process that plays the cell."),
    FileSchema(
        "cells/CELL/ledger.sqlite",
        "SQLite",
        "Every question, every answer, and what the agent was told; each row ends with its CRC.",
        _LEDGER,
    ),
    FileSchema(
        "cells/CELL/ledger.copy", "text", "The same, a line for each commit; either of the two restores the other."
    ),
    FileSchema(
        "cells/CELL/checkpoint.npz",
        "NumPy",
        "World, agent, policy and streams after some round; arrays and JSON, no pickles.",
    ),
    FileSchema(
        "cells/CELL/records.jsonl",
        "JSON lines",
        "What was measured, a line each time, as it was measured: a number, or a list of one for each seed.",
        {
            name: Column("number / list", column.meaning)
            for name, column in _MEASURED.items()
            if name not in ("agent", "seed")
        },
        others="As in `results.parquet`.",
    ),
    FileSchema(
        "cells/CELL/progress.json",
        "JSON",
        "How far the cell is, for bars and `duelenv watch`.",
        {
            "rounds": Column("number", "Rounds that were played."),
            "horizon": Column("number", "Rounds of the episode."),
            "figure": Column("text", "Name and value of the figure that matters; empty before the first."),
            "labels": Column("number", "Labels that all seeds of the cell have asked for."),
            "rate": Column("number", "Rounds a second since this start; null before there is one."),
        },
    ),
    FileSchema(
        "cells/CELL/result.parquet",
        "Parquet",
        "The rows of `results.parquet` that are this cell's.",
        _MEASURED,
        others="As there.",
    ),
    FileSchema(
        "cells/CELL/examples.json",
        "JSON",
        "A list of held-out prompts with what was said before and after learning; empty in worlds without texts.",
        {
            "prompt": Column("text", "The prompt."),
            "before": Column("text", "What the start policy answers; of recorded responses any of them."),
            "after": Column("text", "What the trained policy answers; of recorded responses the recommended one."),
        },
    ),
    FileSchema(
        "cells/CELL/references.json",
        "JSON",
        "Simple regret of rules that ask for nothing, a list over seeds for each; null where the world knows none.",
    ),
    FileSchema(
        "cells/CELL/played_on.json",
        "JSON",
        "On what processes played the cell, the first one first.",
        {"players": Column("list", "A mapping for each, with the keys of `environment.json` that tell of a machine.")},
        sealed=True,
    ),
    FileSchema(
        "cells/CELL/done.json",
        "JSON",
        "Ends a cell: it is finished if this is here and everything it names is as it says.",
        {
            "products": Column("object", "SHA-256 of each result of the cell, by file."),
            "model": Column("object", "Size and SHA-256 of each file of its model, by path."),
        },
        sealed=True,
    ),
    FileSchema("cells/CELL/model/", "folder", "The policy that the cell trained, as transformers loads it."),
    FileSchema("cells/CELL/best-STEP/", "folder", "With `save_models: best`, the best policy so far."),
    FileSchema("cells/CELL/error.txt", "text", "Traceback of what stopped the cell last; removed when it is finished."),
    FileSchema("cells/CELL/refused.txt", "text", "The sentence with which it was refused last; likewise."),
    FileSchema("cells/CELL/diverged/", "folder", "Policy and agent from before a gradient step that was not finite."),
)
