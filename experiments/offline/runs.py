"""The log of a run whose agent chose at random: its duels out of the ledger, what was shown by playing them again.

A ledger holds the two responses that were compared and not the others. What a world shows depends on its seed and not
on what is played, where it has no policy: the world is made again and stepped through the logged actions.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from duelenv.experiments.config.cell import Cell, cells
from duelenv.experiments.config.identity import settings_of
from duelenv.experiments.config.modules import load_modules
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.config.settings import NamedConfig
from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.offline.log import DuelLog
from duelenv.experiments.running import assembly
from duelenv.ground.checks import choices
from duelenv.ground.errors import UserError
from duelenv.labels.ledger import text_of
from duelenv.labels.ledger_file import read

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["log_of_run"]

#: Agents whose propensities follow from what is shown.
_AT_RANDOM: Final = ("passive", "random")


def log_of_run(root: Path, logger: str | None = None) -> DuelLog:
    """Read the duels of a run's agent that chose at random, over all of its seeds.

    Args:
        root: The run's folder.
        logger: Label of the agent; by default the first that chose at random.

    Raises:
        UserError: No such agent, one whose propensities nobody recorded, a world with a policy, or no ledger.
    """
    folder = RunFolder(root)
    config = settings_of(folder)
    load_modules(config.modules)
    label = _logger(config, logger)
    if config.policy is not None:
        raise UserError(
            f"{str(root)!r} is of a world with a policy, whose ledger holds the two responses that were compared and "
            "not the others; log the candidates in a table, with a propensity a row"
        )
    cell = next(one for one in cells(config) if one.label == label)
    duels, texts = _duels(folder, cell)
    own = config.for_agent(label)
    if own.oracle is not None:  # nobody is asked again
        record = {"path": str(folder.cell(cell.name).path), "unknown": "decline"}
        own = replace(own, oracle=NamedConfig("recorded", record), evaluation_oracle=None)
    env = assembly.make_environment(own)
    try:
        log, told = _played_again(env, duels, cell, own.agent(label).name)
    finally:
        env.close()
    if own.oracle is None:
        known = ~np.isnan(log.labels) & ~np.isnan(told)
        same = bool((log.labels[known] == told[known]).all())
    else:  # which may have answered the same pair in two ways
        assert log.responses is not None
        same = log.responses[np.arange(len(log)), log.pairs[:, 0]].tolist() == texts[: len(log)]
    if not same:
        raise UserError(
            "the world does not show what it showed in the run, as its labels and texts tell: this is another version "
            "of the package or of the data; use the one that the run was played with"
        )
    return log


def _logger(config: RunConfig, logger: str | None) -> str:
    labels = {agent.label: agent.name for agent in config.agents}
    if logger is None:
        found = [label for label, name in labels.items() if name in _AT_RANDOM]
        if not found:
            raise UserError(
                f"this run has no agent that chose at random among {', '.join(labels)}: others choose by what they "
                "have learnt, with propensities that nobody recorded; run 'passive', or give a table with propensities"
            )
        return found[0]
    if logger not in labels:
        raise UserError(f"logger is {logger!r}: {choices(logger, labels)}")
    if labels[logger] not in _AT_RANDOM:
        raise UserError(
            f"logger is {logger!r}, a {labels[logger]!r}, which chooses by what it has learnt, with propensities that "
            "nobody recorded; name an agent that chose at random (passive, random), or give a table with propensities"
        )
    return logger


def _duels(folder: RunFolder, cell: Cell) -> tuple[NDArray[np.float64], list[str | None]]:
    """Read round, row, first, second, label of every duel, [N, 5], in order, and the first's text if there is one."""
    connection = read(folder.cell(cell.name).path)
    rows = []
    if connection is not None:
        with closing(connection):
            rows = connection.execute(
                "SELECT round, row, first_arm, second_arm, label, text FROM duels LEFT JOIN texts ON number = first "
                "ORDER BY round, row"
            ).fetchall()
    if not rows:
        raise UserError(
            f"{str(folder.root)!r} keeps no duels of {cell.label!r}: nothing was played yet, or 'label_log' is off; "
            "run it with label_log=true"
        )
    numbers = [[np.nan if value is None else value for value in row[:5]] for row in rows]
    return np.array(numbers, np.float64), [None if row[5] is None else text_of(row[5]) for row in rows]


def _played_again(env: Any, duels: NDArray[np.float64], cell: Cell, agent: str) -> tuple[DuelLog, NDArray[np.float64]]:
    """Play the log again, and find the labels that the world gives now."""
    view = env.unwrapped.view()
    if view.selective:
        raise UserError(
            "this run chose which rows to ask, by rules whose propensities nobody recorded; use another run"
        )
    rounds = len(duels) // view.num_envs
    duels = duels[: rounds * view.num_envs].reshape(rounds, view.num_envs, 5)
    shown: dict[str, list[Any]] = {"features": [], "prompt": [], "responses": []}
    propensities, told = [], []
    observation, _ = env.reset(seed=cell.seeds[0])
    for played in duels:
        pairs = played[:, 2:4].astype(np.int64)
        for name, values in shown.items():
            if name in observation:
                values.append(np.array(observation[name]))
        propensities.append(_propensities(view.num_candidates, pairs, agent))
        observation, labels, *_ = env.step(pairs)
        told.append(labels)
    order = (-1, *np.array(shown["features"]).shape[2:])
    texts = [np.concatenate(shown[name]) if shown[name] else None for name in ("prompt", "responses")]
    log = DuelLog(
        np.array(shown["features"]).reshape(order),
        duels[:, :, 2:4].reshape(-1, 2).astype(np.int64),
        duels[:, :, 4].ravel(),
        np.concatenate(propensities),
        np.tile(np.arange(view.num_envs) // view.batch, rounds),
        *texts,
    )
    return log, np.array(told).ravel()


def _propensities(size: int, pairs: NDArray[np.int64], agent: str) -> NDArray[np.float64]:
    """Find the probability of each pair of K candidates in either order, float64 [N]."""
    if agent == "random":  # both independent, so that one may meet itself
        return np.where(pairs[:, 0] == pairs[:, 1], 1.0, 2.0) / size**2
    return np.full(len(pairs), 2.0 / (size * (size - 1)))
