"""Nested state in one file, without pickle; not a general serialiser.

State is what `state_dict` methods return: dicts, lists and tuples of numbers, text, None, NumPy arrays and torch
tensors. It goes into one `.npz`: the arrays as they are, the nesting as JSON beside them. Reading such a file runs no
code, whoever wrote it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from duelenv.experiments.folder.files import atomic

__all__ = ["Damaged", "load", "save"]

# Marks of what JSON does not know. A plain dict becomes a list of items, so no key of the user's can look like one.
_ARRAY: Final = "array"
_TENSOR: Final = "tensor"
_SCALAR: Final = "scalar"
_STRINGS: Final = "strings"
_TUPLE: Final = "tuple"
_LIST: Final = "list"
_DICT: Final = "dict"
_BYTES: Final = "bytes"


class Damaged(Exception):
    """A file that is not as `save` wrote it."""


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write nested state to `path` atomically.

    Raises:
        TypeError: Something in `state` is none of the kinds named above; the message says where.
    """
    arrays: dict[str, NDArray[Any]] = {}
    tree = _encode(state, arrays, "state")
    arrays["tree"] = np.frombuffer(json.dumps(tree).encode("utf-8"), dtype=np.uint8)
    with atomic(path) as stream:
        np.savez(stream, allow_pickle=False, **arrays)


def load(path: Path) -> dict[str, Any]:
    """Read what `save` wrote; tensors come back on the CPU.

    Raises:
        Damaged: It is not what `save` wrote.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            tree = json.loads(archive["tree"].tobytes().decode("utf-8"))
            state: dict[str, Any] = _decode(tree, archive)
    except Exception as error:  # whatever a changed byte may lead to
        raise Damaged(str(path)) from error
    return state


def _encode(value: Any, arrays: dict[str, NDArray[Any]], where: str) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        # np.float64 is a float: written as one it would come back as one.
        if not isinstance(value, np.generic):
            return value
    if isinstance(value, np.generic):
        return {_SCALAR: _keep(np.asarray(value), arrays)}
    if isinstance(value, np.ndarray):
        if value.dtype != object:
            return {_ARRAY: _keep(value, arrays)}
        flat = value.ravel().tolist()
        if not all(isinstance(item, str) for item in flat):
            raise TypeError(f"{where} is an object array that does not hold text only, so it cannot be saved")
        return {_STRINGS: flat, "shape": list(value.shape)}
    if isinstance(value, bytes):
        return {_BYTES: _keep(np.frombuffer(value, dtype=np.uint8), arrays)}
    if isinstance(value, Mapping):
        return {
            _DICT: [
                [_encode(key, arrays, where), _encode(item, arrays, f"{where}[{key!r}]")] for key, item in value.items()
            ]
        }
    if isinstance(value, list | tuple):
        items = [_encode(item, arrays, f"{where}[{index}]") for index, item in enumerate(value)]
        return {_TUPLE if isinstance(value, tuple) else _LIST: items}
    if _is_tensor(value):
        import torch

        tensor = value.detach().cpu().contiguous()
        # NumPy has no bfloat16 (nor float8): such bits travel as integers of the same width.
        known = tensor.dtype not in (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)
        bits = tensor if known else tensor.view(torch.uint8 if tensor.element_size() == 1 else torch.int16)
        return {_TENSOR: _keep(bits.numpy(), arrays), "dtype": str(tensor.dtype).removeprefix("torch.")}
    raise TypeError(f"{where} is a {type(value).__name__}, which a checkpoint cannot hold")


def _keep(array: NDArray[Any], arrays: dict[str, NDArray[Any]]) -> str:
    name = f"a{len(arrays)}"
    arrays[name] = array
    return name


def _is_tensor(value: Any) -> bool:
    # Asked without importing torch, which numeric worlds never load.
    return any(kind.__module__ == "torch" and kind.__name__ == "Tensor" for kind in type(value).__mro__)


def _decode(node: Any, archive: Mapping[str, NDArray[Any]]) -> Any:
    if not isinstance(node, dict):
        return node
    if _DICT in node:
        return {_decode(key, archive): _decode(item, archive) for key, item in node[_DICT]}
    if _LIST in node:
        return [_decode(item, archive) for item in node[_LIST]]
    if _TUPLE in node:
        return tuple(_decode(item, archive) for item in node[_TUPLE])
    if _ARRAY in node:
        return archive[node[_ARRAY]]
    if _SCALAR in node:
        return archive[node[_SCALAR]][()]
    if _BYTES in node:
        return archive[node[_BYTES]].tobytes()
    if _STRINGS in node:
        texts = np.empty(len(node[_STRINGS]), dtype=object)
        texts[:] = node[_STRINGS]
        return texts.reshape(node["shape"])
    import torch

    bits = torch.from_numpy(np.array(archive[node[_TENSOR]]))
    dtype = getattr(torch, node["dtype"])
    return bits if bits.dtype == dtype else bits.view(dtype)
