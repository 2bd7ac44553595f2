"""`duelenv offline LOG --agent NAME`: what the agent's recommendations are worth, from duels that another one chose."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from duelenv.ground.errors import UserError
from duelenv.ground.terminal import printable

__all__ = ["about_log", "add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command to the others."""
    parser = commands.add_parser(
        "offline",
        help="how good an agent's recommendations are, from logged duels that another agent chose",
        description="Lets AGENT learn from the first rounds of LOG, and estimates how often what it then recommends "
        "is preferred to another candidate, from the rounds that are left; and plays it on the log by rejection.",
    )
    parser.add_argument(
        "log",
        metavar="LOG",
        type=Path,
        help="a run's folder whose agent chose at random, or a table with first_arm, second_arm, label, propensity and "
        "features or responses",
    )
    parser.add_argument("overrides", metavar="key=value", nargs="*", default=[], help="settings of the agent")
    parser.add_argument("--agent", metavar="NAME", required=True, help="its name, see 'duelenv list'")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of the agent and of resampling (default: 0)")
    parser.add_argument("--logger", metavar="LABEL", help="of a run: whose duels (default: the first at random)")
    parser.add_argument(
        "--learn", metavar="SHARE", type=float, default=0.5, help="of the rounds, to learn from (default: 0.5)"
    )
    parser.add_argument("--clip", metavar="W", type=float, help="largest weight (default: no limit)")
    parser.add_argument("--interval", metavar="KIND", default="normal", help="normal or bootstrap (default: normal)")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from duelenv.experiments.config.loading import override_mapping

    text = about_log(
        arguments.log,
        arguments.agent,
        override_mapping({}, arguments.overrides),
        seed=arguments.seed,
        logger=arguments.logger,
        learn=arguments.learn,
        clip=arguments.clip,
        interval=arguments.interval,
    )
    print(printable(text, newlines=True))
    return 0


def about_log(
    path: Path,
    agent: str,
    agent_settings: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    logger: str | None = None,
    learn: float = 0.5,
    clip: float | None = None,
    interval: str = "normal",
) -> str:
    """Return what the command prints.

    Args:
        path: The log.
        agent: Name of the target.
        agent_settings: Its settings.
        seed: Of the agent, and of resampling.
        logger: Of a run, whose duels.
        learn: Share of the rounds, in (0, 1), that it learns from before it is judged on the others.
        clip: Largest weight.
        interval: "normal" or "bootstrap".

    Raises:
        UserError: A setting, the log or a row of it is not as expected.
    """
    from duelenv import agents
    from duelenv.core import AgentView
    from duelenv.experiments.offline.estimators import Settings, estimate
    from duelenv.experiments.offline.reading import read_log
    from duelenv.experiments.offline.targets import recommendations, replay, taught
    from duelenv.ground import checks

    checks.number("learn", learn, above=0.0, below=1.0)
    checks.integer("seed", seed, low=0)
    settings = Settings(clip=clip, interval=interval, seed=seed)
    given = dict(agent_settings or {})

    def make(view: AgentView, replicate: int) -> agents.Agent:
        return agents.make(agent, view, seed=seed + replicate, **given)

    log = read_log(path, logger)
    early, late = log.split(learn)
    if not len(early) or not len(late):
        raise UserError(f"{len(log)} rounds are too few to learn from some and judge by the others; give a longer log")
    found = estimate(late, recommendations(late, taught(early, make)), settings)
    played = replay(log, make, settings)
    replicates = len(set(log.of_replicate.tolist()))
    head = f"{len(log):,} logged duels of {log.num_candidates} candidates"
    head += f" in {replicates} replicates" if replicates > 1 else ""
    lines = [
        f"{head}; {agent} learns from {len(early):,} and is judged by {len(late):,}.",
        "How often its recommendation is preferred to another candidate (1/2: as good as any):",
        "",
        *_table([*found, played.value]),
        "",
        f"Replay: {played.accepted:,} of {played.rounds:,} rounds were the ones it would have chosen; the first of its "
        f"own pairs won {played.won.value:.3f} [{played.won.low:.3f}, {played.won.high:.3f}].",
        "'replay, recommended' is the mean over the log while it learnt from those rounds alone. 'model' is right only "
        "where the model is; its interval does not know of that.",
    ]
    if clip is not None:
        lines.append(f"Weights above {clip:g} were clipped: 'bias' is how far off that makes an estimate at most.")
    least = min((one for one in (*found, played.value) if one.name != "model"), key=lambda one: one.effective)
    return "\n".join([*lines, *([] if least.caution is None else [f"Caution: {least.caution}."])])


def _table(estimates: Sequence[Any]) -> list[str]:
    header = ("estimator", "value", "95 % interval", "rounds", "effective", "bias")
    rows = [header]
    for one in estimates:
        interval = f"[{one.low:.3f}, {one.high:.3f}]"
        bias = "unknown" if one.bias != one.bias else f"{one.bias:.3f}"
        rows.append((one.name, f"{one.value:.3f}", interval, f"{one.rounds:,}", f"{one.effective:,.0f}", bias))
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    return [
        "  ".join(
            cell.ljust(width) if not place else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
