"""Loads the user's own Python, by a module's name or a file's path, and what it defines. Not for what it may change."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from duelenv.ground.checks import choices
from duelenv.ground.errors import UserError

__all__ = ["load_function", "load_modules"]

#: Which version of a file was loaded last: an older one that comes back takes its names over again.
_loaded: dict[Path, str] = {}


def load_modules(modules: Sequence[str]) -> None:
    """Import the user's own modules, which register agents, oracles or worlds.

    Args:
        modules: Dotted names, or paths of Python files.

    Raises:
        UserError: One of them does not exist, or raises an exception.
    """
    for name in modules:
        _load(name, "modules")


def load_function(module: str, function: str, setting: str) -> Callable[..., Any]:
    """Return a function of a module of the user's.

    Args:
        module: Dotted name, or path of a Python file.
        function: Its name there.
        setting: The setting that names it, for sentences.

    Raises:
        UserError: No such module, or nothing in it of that name that can be called.
    """
    loaded = _load(module, setting)
    found = getattr(loaded, function, None)
    if not callable(found):
        known = [name for name, value in vars(loaded).items() if callable(value) and not name.startswith("_")]
        raise UserError(f"{module!r} has no function {function!r}, which {setting!r} names: {choices(function, known)}")
    made: Callable[..., Any] = found
    return made


def _load(name: str, setting: str) -> ModuleType:
    if not name.endswith(".py"):
        if importlib.util.find_spec(name.partition(".")[0]) is None:
            raise UserError(
                f"No module {name!r}: put its folder on PYTHONPATH or install it, or give the path of a Python file"
            )
        with _named(name, setting):
            module = importlib.import_module(name)
        if module.__spec__ is not None and module.__spec__.origin is None:
            raise UserError(f"{name!r} is a folder without code of its own: name a Python file in it in {setting!r}")
        return module
    path = Path(name)
    if not path.is_file():
        raise UserError(f"No Python file {name!r}: correct {setting!r}")
    # By what it holds: names come twice, and a copy elsewhere registers nothing new.
    source = path.read_bytes()
    key = f"duelenv_run_{path.stem}_{zlib.crc32(source):08x}"
    last, _loaded[path.resolve()] = _loaded.get(path.resolve(), key), key
    if key in sys.modules and last == key:  # the same process runs many cells
        return sys.modules[key]
    spec = importlib.util.spec_from_file_location(key, path)
    if spec is None:
        raise UserError(f"{name!r} is not a Python file: correct {setting!r}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[key] = module
    try:
        # Not by the loader: it takes compiled code of the same size and second for that of this file.
        with _named(name, setting):
            exec(compile(source, str(path), "exec"), vars(module))
    except BaseException:
        del sys.modules[key]
        _loaded.pop(path.resolve(), None)
        raise
    return module


@contextmanager
def _named(name: str, setting: str) -> Iterator[None]:
    """Say of an exception of the user's own code at which file and line of theirs it was raised.

    Raises:
        UserError: An exception.
    """
    try:
        yield
    except Exception as error:
        frames = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename != __file__ and not frame.filename.startswith("<frozen importlib")
        ]
        place = [(frame.filename, frame.lineno) for frame in frames if frame.filename == name] or [
            (frame.filename, frame.lineno) for frame in frames
        ]
        if isinstance(error, SyntaxError):
            place, what = [(error.filename or name, error.lineno)], f"{type(error).__name__}: {error.msg}"
        else:
            said = (str(error).splitlines() or [""])[0]
            what = said if isinstance(error, UserError) else f"{type(error).__name__}: {said}"
        where = f", in line {place[-1][1]} of {place[-1][0]!r}" if place else ""
        raise UserError(f"{name!r}, which {setting!r} names, cannot be loaded: {what}{where}; correct it") from error
