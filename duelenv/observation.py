"""Observations whose costly parts are made when they are first read; not a general lazy mapping.

A live policy is sampled for the next round only when somebody looks at that round. In the usual loop this is after
`agent.update`, so the candidates come from the updated policy.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from numpy.typing import NDArray


class _Pending:
    """Marks a value that was not read yet."""

    def __repr__(self) -> str:
        return "<not drawn yet>"


_PENDING = _Pending()


class LazyObservation(dict[str, Any]):
    """A dict of arrays; each value is computed by its function on first reading and kept.

    Gymnasium's `Dict` space asks for a `dict`, so this is one, with every way of reading a value overridden. The keys
    are known from the start. A copy has everything drawn; `copy()` and pickling give a plain `dict`.

    Args:
        sources: For each key the function that makes its value.
    """

    def __init__(self, sources: Mapping[str, Callable[[], NDArray[Any]]]) -> None:
        super().__init__(dict.fromkeys(sources, _PENDING))
        self._sources = dict(sources)

    def is_drawn(self, key: str) -> bool:
        """Tell whether the value of `key` was made already."""
        return dict.__getitem__(self, key) is not _PENDING

    def __getitem__(self, key: str) -> Any:
        value = dict.__getitem__(self, key)
        if value is _PENDING:
            value = self._sources[key]()
            dict.__setitem__(self, key, value)
        return value

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self else default

    # Overriding `__iter__` also makes `dict(x)` and `{**x}` read through `__getitem__`.
    def __iter__(self) -> Iterator[str]:
        return super().__iter__()

    def values(self) -> Any:
        return self.drawn().values()

    def items(self) -> Any:
        return self.drawn().items()

    def copy(self) -> dict[str, Any]:
        return self.drawn()

    def drawn(self) -> dict[str, Any]:
        """Return a plain `dict` with every value made."""
        return {key: self[key] for key in self}

    def __eq__(self, other: object) -> bool:
        return self.drawn() == other

    def __reduce__(self) -> Any:
        return dict, (self.drawn(),)

    def __deepcopy__(self, memo: dict[int, Any]) -> LazyObservation:
        twin = LazyObservation({})
        dict.update(twin, copy.deepcopy(self.drawn(), memo))
        return twin
