"""Measures how many row-steps per second the vector worlds make, on one core; not how fast agents are."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from duelenv.ground.checks import choices
from duelenv.ground.errors import UserError

__all__ = ["Speed", "bench", "check_worlds"]

#: Worlds that are measured.
_WORLDS = ("MatrixDuel", "FeatureDuel", "PoolDuel")
#: Rows, candidates and features of every world.
ROWS, CANDIDATES, DIM = 256, 10, 10
#: Timed stretches; the median counts.
REPEATS = 5
#: Length of one stretch in seconds.
STRETCH = 0.4


@dataclass(frozen=True)
class Speed:
    """Result for one world."""

    world: str
    row_steps_per_second: float
    """Median over the stretches."""
    slowest: float
    fastest: float


def bench(worlds: Sequence[str] = ()) -> list[Speed]:
    """Time `env.step` with random pairs, the observation's features read every round.

    Args:
        worlds: Short names of numeric worlds; all of them if empty.

    Raises:
        UserError: A world that is not among them.
    """
    check_worlds(worlds)
    speeds = []
    for world in worlds or _WORLDS:
        with _environment(world) as env:
            rates = _rates(env)
        speeds.append(Speed(world, median(rates), min(rates), max(rates)))
    return speeds


def check_worlds(worlds: Sequence[str]) -> None:
    """Refuse worlds that are not measured.

    Raises:
        UserError: The first of them.
    """
    for world in worlds:
        if world not in _WORLDS:
            raise UserError(f"No bench for the world {world!r}: {choices(world, _WORLDS)}")


def _rates(env: Any) -> list[float]:
    pairs = np.random.default_rng(0).integers(0, CANDIDATES, size=(64, ROWS, 2))
    env.reset(seed=0)
    left = env.unwrapped.horizon
    rates = []
    for stretch in range(REPEATS + 1):
        started = time.perf_counter()
        rounds = 0
        while True:
            if left == 0:
                env.reset()
                left = env.unwrapped.horizon
            observation, *_ = env.step(pairs[rounds % len(pairs)])
            observation["features"]  # a lazy one is made now
            rounds += 1
            left -= 1
            elapsed = time.perf_counter() - started
            if elapsed >= STRETCH:
                break
        if stretch:  # the first warms caches up
            rates.append(rounds * ROWS / elapsed)
    return rates


@contextmanager
def _environment(world: str) -> Iterator[Any]:
    import gymnasium

    import duelenv

    assert f"duelenv/{world}-v0" in duelenv.WORLDS
    settings: dict[str, Any] = {"num_envs": ROWS, "horizon": 100_000}
    with tempfile.TemporaryDirectory() as folder:
        if world == "MatrixDuel":
            gaps = np.linspace(0.4, -0.4, CANDIDATES)
            settings["matrix"] = 0.5 + 0.5 * (gaps[:, np.newaxis] - gaps)
        elif world == "FeatureDuel":
            settings |= {"num_candidates": CANDIDATES, "dim": DIM}
        else:
            settings |= _pool(Path(folder))
        env = gymnasium.make_vec(f"duelenv/{world}-v0", **settings)
        try:
            yield env
        finally:
            env.close()


def _pool(folder: Path, prompts: int = 500) -> dict[str, Any]:
    """Make up a table of recorded responses, with features."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    generator = np.random.default_rng(0)
    total = prompts * CANDIDATES
    table = {
        "prompt": np.repeat([f"prompt {number}" for number in range(prompts)], CANDIDATES).tolist(),
        "response": [f"response {number}" for number in range(total)],
        "score": generator.normal(size=total),
    }
    path = folder / "pool.parquet"
    pq.write_table(pa.table(table), path)
    return {"data": str(path), "features": generator.normal(size=(total, DIM)).astype(np.float32)}
