"""Random streams: one per row and purpose, so that what one row meets never depends on another.

A world has one root integer. Every use of chance (a context, a coin, a candidate's tokens) has a name, its purpose, and
every (root, purpose, row) has a stream of its own. Two agents under one root therefore meet the same prompts and
coins, the first rows of a large batch equal a small batch, and a further use of chance changes none of the others.
Nothing here is for cryptography.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from duelenv.ground.errors import UserError

Kind = Literal["uniform", "normal"]
_Draw = tuple[Kind, np.dtype[Any], tuple[int, ...]]

# Drawing a block at a time makes the per-row call a 64th of its cost; the bound keeps a block of long token
# sequences from taking memory that nobody reads.
_MAX_BLOCK_ROUNDS = 64
_MAX_BLOCK_VALUES = 1 << 15


def _fill_uniform(generator: np.random.Generator, out: NDArray[Any]) -> None:
    generator.random(out=out, dtype=out.dtype)


def _fill_normal(generator: np.random.Generator, out: NDArray[Any]) -> None:
    """Fill with N(0, 1); in single precision by Box and Muller (1958), whose functions NumPy vectorises.

    That takes half the time of NumPy's own ziggurat, which is most of what a world of Gaussian features does. Single
    precision ends at 5.8 deviations, and its last bit may differ between processors.
    """
    if out.dtype != np.float32:
        generator.standard_normal(out=out)
        return
    values = out.reshape(-1)
    half = values.size // 2
    u = generator.random((2, values.size - half), dtype=np.float32)
    radius = np.sqrt(np.float32(-2.0) * np.log1p(-u[0]))
    angle = np.float32(2.0 * np.pi) * u[1]
    np.multiply(radius[:half], np.sin(angle[:half]), out=values[:half])
    np.multiply(radius, np.cos(angle), out=values[half:])


_FILL: dict[str, Callable[[np.random.Generator, NDArray[Any]], None]] = {
    "uniform": _fill_uniform,
    "normal": _fill_normal,
}


def _name_of(draw: _Draw) -> str:
    """Return the name that a draw's streams are keyed by and that checkpoints hold, such as "normal,float32,10,5"."""
    kind, dtype, shape = draw
    return ",".join([kind, dtype.name, *map(str, shape)])


def stream(root: int, purpose: str, row: int = 0) -> np.random.Generator:
    """Return the generator of one (root, purpose, row).

    The same three values give the same numbers in every process and on every platform: the purpose enters through its
    CRC-32, not through `hash`, which Python salts.

    Example:
        >>> float(stream(7, "coin", row=3).random()) == float(stream(7, "coin", row=3).random())
        True
    """
    words = np.random.SeedSequence([root, zlib.crc32(purpose.encode()), row])
    return np.random.Generator(np.random.SFC64(words))


class RowStreams:
    """Independent streams of one purpose, one per row, read as arrays with a leading row axis.

    Each combination of kind, shape and dtype reads a stream of its own, so the order in which different draws are
    asked for does not change their values.

    Args:
        root: The root integer of the world or agent.
        purpose: What the draws are for.
        rows: Number of rows N.

    Example:
        >>> many, few = RowStreams(0, "coin", rows=8), RowStreams(0, "coin", rows=4)
        >>> bool((many.uniform()[:4] == few.uniform()).all())
        True
    """

    def __init__(self, root: int, purpose: str, rows: int) -> None:
        self.root = root
        self.purpose = purpose
        self.rows = rows
        self._draws: dict[_Draw, _Blocks] = {}

    def uniform(self, *shape: int, dtype: DTypeLike = np.float64) -> NDArray[Any]:
        """Return the next draws of U[0, 1), shape [N, *shape]."""
        return self._next("uniform", shape, dtype)

    def normal(self, *shape: int, dtype: DTypeLike = np.float64) -> NDArray[Any]:
        """Return the next draws of N(0, 1), shape [N, *shape]."""
        return self._next("normal", shape, dtype)

    def state_dict(self) -> dict[str, Any]:
        """Return the root and how many times each kind of draw was read: they fix everything that follows."""
        return {"root": self.root, "reads": {_name_of(draw): blocks.reads for draw, blocks in self._draws.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Move every stream to where `state_dict` saw it, by reading up to that point again.

        Raises:
            UserError: The saved streams have another root: what saved them was made with another seed.
        """
        if state["root"] != self.root:
            raise UserError(
                f"the saved state draws from root {state['root']}, this from {self.root}; make it with the same seed"
            )
        self._draws.clear()
        for key, reads in state["reads"].items():
            kind, dtype, *shape = key.split(",")
            for _ in range(reads):
                self._next(kind, tuple(int(size) for size in shape), dtype)

    def _next(self, kind: Kind, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        draw = (kind, np.dtype(dtype), shape)
        blocks = self._draws.get(draw)
        if blocks is None:
            name = f"{self.purpose}/{_name_of(draw)}"
            generators = [stream(self.root, name, row) for row in range(self.rows)]
            blocks = self._draws[draw] = _Blocks(draw, generators)
        return blocks.next()


class _Blocks:
    """The draws of one kind, some rounds at a time; plain data, so that it can be copied and pickled.

    Attributes:
        reads: How many rounds were read.
    """

    def __init__(self, draw: _Draw, generators: list[np.random.Generator]) -> None:
        self._kind, self._dtype, self._shape = draw
        self._generators = generators
        size = int(np.prod(self._shape, dtype=np.int64))
        self._most_rounds = max(1, min(_MAX_BLOCK_ROUNDS, _MAX_BLOCK_VALUES // max(size, 1)))
        # What is read once shall not pay for many rounds, where values do not depend on the size of blocks.
        small = 1 if self._kind != "normal" or self._dtype != np.float32 else self._most_rounds
        self._next_rounds = min(small, self._most_rounds)
        self._rounds = self._place = 0  # in the block, and of the next one in it: there is none yet
        self._block: NDArray[Any]
        self.reads = 0

    def next(self) -> NDArray[Any]:
        place = self._place
        if place == self._rounds:
            self._rounds = self._next_rounds
            self._next_rounds = min(4 * self._rounds, self._most_rounds)
            # New each time, because observations keep views of it; a row's rounds lie together, so that its generator
            # writes them in place.
            self._block = np.empty((len(self._generators), self._rounds, *self._shape), self._dtype)
            for generator, row in zip(self._generators, self._block, strict=True):
                _FILL[self._kind](generator, row)
            place = 0
        self._place = place + 1
        self.reads += 1
        return self._block[:, place]


class RoundUniforms:
    """One uniform for every row of every round, as a pure function of (root, purpose, number of the round, row).

    What is decided by it does not depend on how often or in which order it is asked for. Rounds in ascending order cost
    next to nothing; going back draws the streams again from their start.

    Args:
        root: The root integer of the world.
        purpose: What the draws are for.
        rows: Number of rows N.

    Example:
        >>> coins = RoundUniforms(0, "coin", rows=4)
        >>> third, first, again = coins.at(3), coins.at(1), coins.at(3)
        >>> bool((third == again).all()), bool((third == first).any())
        (True, False)
    """

    def __init__(self, root: int, purpose: str, rows: int) -> None:
        self._streams = RowStreams(root, purpose, rows)
        self._next = 0
        self._last: NDArray[np.float64]

    def at(self, number: int) -> NDArray[np.float64]:
        """Return the uniforms of a round, U[0, 1), float64 [N]; not to be written into."""
        if number < self._next - 1:
            self._streams = RowStreams(self._streams.root, self._streams.purpose, self._streams.rows)
            self._next = 0
        while self._next <= number:
            self._last = self._streams.uniform()
            self._next += 1
        return self._last
