"""What the files hold that a run reads, as digests: data, models and code. Nothing is imported or run.

Of code, the files count that a module brings along: those that it imports, as far as they are the user's own. What is
installed is named by its version, which `environment.json` keeps.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.machinery
import importlib.util
import json
import os
import re
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from duelenv.experiments.folder import files
from duelenv.ground.errors import UserError

__all__ = [
    "digest_of_function",
    "digest_of_modules",
    "digest_of_path",
    "function_named",
    "functions_named",
    "names_a_file",
]

#: Settings that may name a folder or a file without an ending, wherever they stand.
_PATHS: Final = ("path", "matrix", "features", "model", "tokenizer", "encoder", "labels")
#: Settings that may name a function of the user's.
_FUNCTIONS: Final = ("features",)
#: What a folder of code or of a model holds beside itself.
_BESIDE: Final = ("__pycache__", ".git", ".cache")
#: Where installed code lies, and this package.
_INSTALLED: Final = tuple(
    Path(path).resolve()
    for path in {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    if path
)
_OURSELVES: Final = __name__.partition(".")[0]


def names_a_file(key: str, value: Any) -> bool:
    """Tell whether a setting names something on the disk.

    Args:
        key: Dotted.
        value: Of the setting. Under a key that is not known to name files, a word without a separator or an ending
            names none, whatever lies about.
    """
    if not isinstance(value, str) or not value:
        return False
    try:
        if key.rpartition(".")[2] in _PATHS:
            return Path(value).exists()
        return (os.sep in value or Path(value).suffix != "") and Path(value).is_file()
    except (OSError, ValueError):  # too long for a path, or with a NUL in it
        return False


def functions_named(key: str, value: Any) -> list[tuple[str, str]]:
    """Find the modules and functions that a setting or the items of its list name; see `function_named`."""
    listed = value if isinstance(value, list | tuple) else [value]
    return [found for found in (function_named(key, item) for item in listed) if found is not None]


def function_named(key: str, value: Any) -> tuple[str, str] | None:
    """Find the module and function that a setting names: `encoder.py:embed`, `package.module:embed`; None if neither.

    Args:
        key: Dotted.
        value: Of the setting.
    """
    if key.rpartition(".")[2] not in _FUNCTIONS or not isinstance(value, str):
        return None
    found = re.fullmatch(r"(.+\.py|[^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*)", value)
    return None if found is None else (found[1], found[2])


def digest_of_function(module: str, function: str) -> str:
    """Return the SHA-256 of a function's module and what it imports of the user's own, with its name."""
    return _digest_of([digest_of_modules([module]), function])


def digest_of_path(path: Path) -> str:
    """Return the SHA-256 of a file, or of all files of a folder with their names, in hexadecimal.

    Raises:
        UserError: It cannot be read.
    """
    if path.is_file():
        digest = files.digest_of(path)
        if digest is None:
            raise UserError(f"{str(path)!r} cannot be read: correct its permissions")
        return digest
    listed = sorted(
        inner for inner in path.rglob("*") if inner.is_file() and not set(inner.relative_to(path).parts) & {*_BESIDE}
    )
    return _digest_of([[str(inner.relative_to(path)), files.digest_of(inner)] for inner in listed])


def digest_of_modules(names: Sequence[str]) -> str:
    """Return the SHA-256 of modules together with the user's own modules that they import, in hexadecimal.

    Args:
        names: Dotted names, or paths of Python files; a module that is not there is told when it is imported. A module
            of this package counts by its name: what else of the package a run uses is in no digest either.
    """
    sources = [None if name.partition(".")[0] == _OURSELVES else _source_of(name) for name in names]
    own = [None if path is None else digest_of_path(path) for path in sources]
    brought = _brought_along([path for path in sources if path is not None])
    return _digest_of([own, sorted({digest_of_path(path) for path in brought})] if brought else own)


def _digest_of(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _source_of(module: str) -> Path | None:
    """Find the file of a module, or the folder of the outermost package that it lies in."""
    if module.endswith(".py"):
        return Path(module) if Path(module).is_file() else None
    first, *rest = module.split(".")
    spec = _spec(first)
    if spec is None:
        return None
    if spec.has_location and spec.origin is not None:
        origin = Path(spec.origin)
        return origin.parent if spec.submodule_search_locations else origin
    for folder in spec.submodule_search_locations or ():  # a folder without __init__.py, perhaps several
        found = _below(Path(folder), rest)
        if found is not None:
            return found
    return None


def _below(folder: Path, parts: Sequence[str]) -> Path | None:
    """Find the outermost package, or else the module, on a way down from a folder that is no package."""
    for part in parts:
        if folder.joinpath(part, "__init__.py").is_file():
            return folder / part
        if folder.joinpath(f"{part}.py").is_file():
            return folder / f"{part}.py"
        folder = folder / part
    return folder if folder.is_dir() and parts else None


def _spec(name: str) -> importlib.machinery.ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)  # of an outermost name: nothing is imported
    except (ImportError, ValueError, AttributeError):
        return None


def _brought_along(sources: Sequence[Path]) -> set[Path]:
    """Find the user's own files that modules import, directly or through each other, outside of the given ones."""
    given = [path.resolve() for path in sources]
    waiting = [file for path in given for file in ([path] if path.is_file() else path.rglob("*.py"))]
    seen = set(waiting)
    while waiting:
        for found in _imports(waiting.pop()):
            if found not in seen:
                seen.add(found)
                waiting.append(found)
    return {path for path in seen if not any(path == one or one in path.parents for one in given)}


def _imports(file: Path) -> Iterator[Path]:
    """Yield the user's own files that one file imports by absolute names."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):  # told when it is imported
        return
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    for name in names:
        if name.partition(".")[0] != _OURSELVES:
            yield from _files_of(name)


def _files_of(module: str) -> Iterator[Path]:
    """Yield the files that importing a dotted name reads: of its packages and of itself, if they are the user's own."""
    first, *rest = module.split(".")
    spec = _spec(first)
    if spec is None:
        return
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    if spec.has_location and spec.origin is not None and not folders:
        candidates = [Path(spec.origin)]
    else:
        candidates = [folder / "__init__.py" for folder in folders]
        for part in rest:
            candidates += [folder / f"{part}.py" for folder in folders]
            folders = [folder / part for folder in folders]
            candidates += [folder / "__init__.py" for folder in folders]
    for candidate in (path.resolve() for path in candidates):
        if candidate.suffix == ".py" and candidate.is_file() and not any(at in candidate.parents for at in _INSTALLED):
            yield candidate
