"""Regret and speed of the bandit agents on fixed worlds, through the public API, on one core; `duelenv bench regret`.

Not for comparing agents of your own in detail: that is `duelenv run karmed` and `contextual`, with figures. Speed is in
duels (row-steps) per second of processor time, world and agent together, summed over replicates; on a machine that does
nothing else that is time on the clock.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duelenv.ground.checks import choices
from duelenv.ground.errors import UserError

__all__ = ["CONTEXTUAL", "KARMED", "WORLD_A", "WORLD_B", "BenchWorld", "Measured", "bench_regret", "matrix_world"]

KARMED = (
    *("random", "interleaved_filter", "btm", "savage", "winner_stays", "rucb", "mergerucb", "ccb", "scb"),
    *("multisbm", "sparring", "versatile", "rmed1", "rmed2", "rmed2fh", "dts", "dts_plus"),
)
"""Agents for K arms, each of which plays both matrices, or the one that is given."""

CONTEXTUAL = (
    *("random", "thompson", "fgts", "maxinp", "maxpairucb", "maxfirstucb", "maxminlcb", "colstim", "rcdb", "rcdp"),
    *("vacdb", "adacdb", "ids", "vids", "infomax", "deltaucb", "drts", "apl", "neural_ucb", "neural_ts"),
)
"""Agents for features, each of which plays worlds A and B."""

#: Utilities of the matrix that is used where no file is given, in logits.
_UTILITIES = (0.0, -0.8, -0.9, -1.0, -1.2, -1.6, -2.0, -2.4, -2.8, -3.2)
#: Seconds between two updates of the progress line.
_PROGRESS_SECONDS = 0.5


@dataclass(frozen=True)
class BenchWorld:
    """A world that agents are measured in."""

    title: str
    id: str
    horizon: int
    replicates: int
    notion: str
    """Of regret."""
    factor: float = 1.0
    """Regret is given as this multiple of the notion."""
    settings: Mapping[str, Any] = field(default_factory=dict)


WORLD_A = BenchWorld(
    "world A: 32 fixed arms, d = 5",
    "duelenv/FeatureDuel-v0",
    horizon=4000,
    replicates=256,
    notion="utility",
    factor=2.0,  # the sum form 2 u* - u_1 - u_2
    settings={
        "candidates": "corners",
        "num_candidates": 32,
        "dim": 5,
        "fixed": True,
        "utility": "linear_sparse",
        "scale": 1.0,
    },
)
"""The arms of Di et al. 2023 (arXiv 2310.00968): {-1, 1}^5, moved a little, theta of two coordinates and norm 1."""

WORLD_B = BenchWorld(
    "world B: 10 fresh arms, d = 10",
    "duelenv/FeatureDuel-v0",
    horizon=1000,
    replicates=256,
    notion="utility",
    settings={
        "candidates": "uniform",
        "feature_scale": float(np.pi),
        "num_candidates": 10,
        "dim": 10,
        "utility": "linear_gaussian",
        "scale": 0.1,
    },
)
"""Arms uniform on [-pi, pi]^10, theta ~ N(0, 0.01 I); regret in the average form u* - (u_1 + u_2) / 2."""


def matrix_world(matrix: NDArray[np.float64], replicates: int = 1024, horizon: int = 10_000) -> BenchWorld:
    """Make the world of a preference matrix."""
    title = f"K = {len(matrix)}"
    settings = {"matrix": matrix}
    return BenchWorld(title, "duelenv/MatrixDuel-v0", horizon, replicates, "average", settings=settings)


@dataclass(frozen=True)
class Measured:
    """An agent in a world."""

    agent: str
    world: BenchWorld
    regret: NDArray[np.float64]
    """After the last round, by replicate, [R]."""
    duels_per_second: float

    @property
    def standard_error(self) -> float:
        """Of the mean regret."""
        return float(self.regret.std(ddof=1) / np.sqrt(len(self.regret)))


def measure(agent_name: str, world: BenchWorld, *, seed: int = 0, show: bool = False) -> Measured:
    """Play one episode of all replicates.

    Args:
        agent_name: A registered agent.
        world: Where.
        seed: Of the world and the agent.
        show: Write progress to standard error.

    Raises:
        UserError: The agent refuses the world, or the world has no such regret.
    """
    import gymnasium

    from duelenv import agents

    env: Any = gymnasium.make_vec(world.id, num_envs=world.replicates, horizon=world.horizon, **world.settings)
    try:
        agent = agents.make(agent_name, env, seed=seed)
        observation, _ = env.reset(seed=seed)
        total = np.zeros(world.replicates)
        shown, spent, started = time.monotonic(), 0.0, time.process_time()
        for step in range(1, world.horizon + 1):
            actions = agent.act(observation)
            following, labels, _, _, info = env.step(actions)
            agent.update(observation, actions, labels)
            observation = following
            if world.notion not in info["regret"]:
                raise UserError(
                    f"the matrix has no Condorcet winner, and {world.notion} regret is against one; give another matrix"
                )
            total += info["regret"][world.notion]
            if show and time.monotonic() - shown >= _PROGRESS_SECONDS:
                shown = time.monotonic()
                spent = time.process_time() - started
                _line(
                    f"{agent_name}, {world.title}: round {step:,} of {world.horizon:,}, "
                    f"{step * world.replicates / spent:,.0f} duels/s, {spent * (world.horizon / step - 1):.0f} s left, "
                    f"regret {world.factor * total.mean():.1f}"
                )
        spent = time.process_time() - started
    finally:
        env.close()
    return Measured(agent_name, world, world.factor * total, world.replicates * world.horizon / spent)


def bench_regret(
    names: Sequence[str] = (),
    *,
    matrix: str | None = None,
    replicates: int | None = None,
    quick: bool = False,
) -> Iterator[str]:
    """Measure the agents, a family after the other, and yield its table as text; progress goes to standard error.

    Args:
        names: Agents; all of them if empty.
        matrix: A `.npy` or `.csv` file: only agents for K arms are measured, and only on this matrix.
        replicates: In place of 1,024 for K arms and 256 for features.
        quick: 200 rounds and 8 replicates, to see that everything works; its figures mean nothing.

    Raises:
        UserError: An unknown agent, an agent for features beside a matrix, or a matrix that is none.
    """
    from duelenv.oracles.matrices import bradley_terry, load_matrix

    known = dict.fromkeys((*KARMED, *CONTEXTUAL))
    for name in names:
        if name not in known:
            raise UserError(f"No bench for the agent {name!r}: {choices(name, known)}")
        if matrix is not None and name not in KARMED:
            raise UserError(f"{name!r} is an agent for features and plays no matrix: leave it out, or '--matrix'")
    if replicates is not None and replicates < 2:
        raise UserError(f"'replicates' is {replicates}, expected at least 2, for a standard error")
    families: list[tuple[Sequence[str], list[BenchWorld]]]
    if matrix is not None:
        families = [(KARMED, [matrix_world(load_matrix(matrix))])]
    else:
        arms = [matrix_world(bradley_terry(utilities)) for utilities in (_UTILITIES, np.linspace(0.0, -3.2, 20))]
        families = [(KARMED, arms), (CONTEXTUAL, [WORLD_A, WORLD_B])]
    for family, worlds in families:
        chosen = [name for name in family if name in names or not names]
        if quick:
            worlds = [_small(world) for world in worlds]
        if replicates is not None:
            worlds = [replace(world, replicates=replicates) for world in worlds]
        if chosen:
            yield _table(chosen, worlds)


def _small(world: BenchWorld) -> BenchWorld:
    return replace(world, horizon=200, replicates=8)


def _table(names: Sequence[str], worlds: Sequence[BenchWorld]) -> str:
    """Measure agents in some worlds and sort them by regret in the first."""
    live = sys.stderr.isatty()
    measured = []
    for name in names:
        row = []
        for world in worlds:
            one = measure(name, world, show=live)
            _line(
                f"{name}, {world.title}: regret {one.regret.mean():.1f} +- {one.standard_error:.1f}, "
                f"{one.duels_per_second:,.0f} duels/s",
                last=True,
            )
            row.append(one)
        measured.append(row)
    measured.sort(key=lambda row: row[0].regret.mean())
    columns = ("regret", "s.e.", "median", "95th", "duels/s")
    head = f"{'agent':<20}" + "".join("".join(f"{column:>10}" for column in columns) for _ in worlds)
    titles = f"{'':<20}" + "".join(f"{world.title:>50}" for world in worlds)
    rows = [
        f"{row[0].agent:<20}"
        + "".join(
            f"{one.regret.mean():>10.1f}{one.standard_error:>10.1f}{np.median(one.regret):>10.1f}"
            f"{np.quantile(one.regret, 0.95):>10.1f}{_rate(one.duels_per_second):>10}"
            for one in row
        )
        for row in measured
    ]
    notes = "; ".join(f"{world.title}: {_about(world)}" for world in worlds)
    return "\n".join([titles, head, "-" * len(head), *rows, "", notes])


def _about(world: BenchWorld) -> str:
    form = {1.0: "", 2.0: ", in the sum form"}[world.factor]
    return f"T = {world.horizon:,}, {world.replicates:,} replicates, {world.notion} regret{form}"


def _rate(duels_per_second: float) -> str:
    return f"{duels_per_second / 1e6:.2f} M" if duels_per_second >= 1e6 else f"{duels_per_second / 1e3:.0f} k"


def _line(text: str, *, last: bool = False) -> None:
    """Show progress: one line that changes on a terminal, a line per result in a log."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="\n" if last else "", file=sys.stderr, flush=True)
    elif last:
        print(text, file=sys.stderr, flush=True)
