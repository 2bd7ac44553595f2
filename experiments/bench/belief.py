"""What a round costs a belief on one core: an ensemble, one on shared trunks, a last layer. `duelenv bench belief`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import gcd
from statistics import median
from time import perf_counter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.beliefs.base import Belief

__all__ = ["BeliefSpeed", "belief_table", "bench_belief"]

#: Duels in a round, and candidates of each; what the demo has.
ROWS, CANDIDATES = 16, 8
#: First layers that the heads of the second ensemble share.
TRUNKS: Final = 10
#: Labels that were learnt from before anything is timed.
LABELS: Final = 320
#: Timed rounds; the median counts.
REPEATS: Final = 9


@dataclass(frozen=True)
class BeliefSpeed:
    """Result for one belief of one size.

    Attributes:
        belief: Its name.
        dim: Number of features.
        heads: Networks of an ensemble; draws of a sample of any.
        update_ms: Milliseconds to learn a round's labels, median over the rounds.
        sample_ms: Milliseconds to draw the utility of a round's candidates `heads` times, median over the rounds.
    """

    belief: str
    dim: int
    heads: int
    update_ms: float
    sample_ms: float


def bench_belief(
    dims: Sequence[int] = (64, 768, 4096), heads: Sequence[int] = (20, 100), repeats: int = REPEATS
) -> Iterator[BeliefSpeed]:
    """Time updates and samples of beliefs on normal features, those of one dimension in turn.

    Every timed update brings a round of new labels. An ensemble takes as many steps however many labels there are, the
    Laplace belief fits to all of them.

    Args:
        dims: Numbers of features.
        heads: Sizes of the ensemble, and how many draws a sample takes of any belief.
        repeats: Timed rounds of each; one before them is not counted.

    Yields:
        One result for each belief, dimension and number of heads.
    """
    with _one_thread():
        for dim in dims:
            yield from _speeds(dim, heads, repeats)


def belief_table(speeds: Sequence[BeliefSpeed]) -> str:
    """Return the results as text, with what a belief costs in units of the first of that dimension."""
    lines = [f"{'belief':<12}{'features':>10}{'heads':>7}{'update ms':>12}{'':>7}{'sample ms':>12}{'':>7}"]
    first: dict[int, BeliefSpeed] = {}
    for speed in speeds:
        base = first.setdefault(speed.dim, speed)
        update, sample = speed.update_ms / base.update_ms, speed.sample_ms / base.sample_ms
        lines.append(
            f"{speed.belief:<12}{speed.dim:>10,}{speed.heads:>7}{speed.update_ms:>12.2f}{f'x{update:.2f}':>7}"
            f"{speed.sample_ms:>12.2f}{f'x{sample:.2f}':>7}"
        )
    return "\n".join(lines)


def _speeds(dim: int, heads: Sequence[int], repeats: int) -> list[BeliefSpeed]:
    generator = np.random.default_rng(0)

    def duels(count: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]:
        first, second = generator.standard_normal((2, count, dim), np.float32)
        return first, second, (generator.random(count) < 0.5).astype(np.float64)

    beliefs = {(name, size): make(dim, size) for name, make in _BELIEFS.items() for size in heads}
    known = duels(LABELS)
    for belief in beliefs.values():
        belief.update(*known)
    times: dict[tuple[str, int], list[tuple[float, float]]] = {key: [] for key in beliefs}
    for _ in range(repeats + 1):
        candidates = generator.standard_normal((ROWS, CANDIDATES, dim), np.float32)
        news = duels(ROWS)
        for key, belief in beliefs.items():  # in turn, so that all meet the same machine
            started = perf_counter()
            belief.sample(candidates, key[1])
            sampled = perf_counter()
            belief.update(*news)
            times[key].append((perf_counter() - sampled, sampled - started))
    return [
        BeliefSpeed(name, dim, size, *(1e3 * median(column) for column in zip(*taken[1:], strict=True)))
        for (name, size), taken in times.items()
    ]


def _ensemble(dim: int, heads: int) -> Belief:
    from duelenv.agents.beliefs.ensemble import DeepEnsemble, DeepEnsembleSettings

    return DeepEnsemble(dim, batch=ROWS, root=0, settings=DeepEnsembleSettings(heads=heads))


def _ensemble_on_trunks(dim: int, heads: int) -> Belief:
    from duelenv.agents.beliefs.ensemble import DeepEnsemble, DeepEnsembleSettings

    settings = DeepEnsembleSettings(heads=heads, trunks=gcd(heads, TRUNKS))
    return DeepEnsemble(dim, batch=ROWS, root=0, settings=settings)


def _laplace(dim: int, heads: int) -> Belief:
    from duelenv.agents.beliefs.laplace import LastLayerLaplace

    return LastLayerLaplace(dim, batch=ROWS, root=0)


_BELIEFS: Final[dict[str, Callable[[int, int], Belief]]] = {
    "ensemble": _ensemble,
    f"{TRUNKS} trunks": _ensemble_on_trunks,
    "laplace": _laplace,
}


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch to one thread; NumPy's are the environment's business."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
