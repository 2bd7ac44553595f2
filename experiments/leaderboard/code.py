"""Which code figures come from, as a digest: of the modules of an agent and a world, and of all that they import.

What a reader alone sees does not count: comments, layout and docstrings. Nothing is imported or run. Of the loop that
plays rounds and writes results only the package's version tells.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["code_digest", "modules_behind"]

_OURSELVES: Final = "duelenv"
#: Parts of agents are loaded by names in texts, "duelenv.agents.asking.plain:at_random".
_NAMED: Final = re.compile(rf"{_OURSELVES}\.agents(\.\w+)*\.?(?=:|$)")


def code_digest(roots: Iterable[str]) -> str:
    """Return the digest of modules of this package with all of it that they import, 12 hexadecimal digits.

    Args:
        roots: Dotted names.
    """
    behind = sorted(modules_behind(roots))
    return hashlib.sha256("".join(f"{name} {_digest(name)}\n" for name in behind).encode()).hexdigest()[:12]


def modules_behind(roots: Iterable[str]) -> set[str]:
    """Return the modules of this package that some need, themselves included, by their dotted names.

    Those that they import, anywhere in them, and parts of agents that they name. A package counts where something is
    taken from it itself: that importing `a.b` runs `a/__init__.py` makes nobody need all that is in `a`.
    """
    found: set[str] = set()
    waiting = [name for name in roots if _file(name) is not None]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _needed(name)
    return found


@cache
def _needed(module: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_named_in(module)))


def _named_in(module: str) -> Iterator[str]:
    """Find the modules of this package that one names, in imports and in texts."""
    for node in _run(_tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if _file(alias.name) is not None)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                name = inner if _file(inner) is not None else node.module
                # The parent package holds nothing but doors to what lies in it.
                if _file(name) is not None and name != _OURSELVES:
                    yield name
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and module.startswith(f"{_OURSELVES}.agents")
        ):
            named = _NAMED.match(node.value)
            if named is not None:
                yield from _meant(named[0])


def _run(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker reads."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        yield from _run(node)


def _meant(name: str) -> Iterator[str]:
    """Find the module of a name; of one that ends with a dot, as the beginning of a text, all that it may mean."""
    path = _file(name.rstrip("."))
    if path is None:
        return
    if name.endswith("."):
        yield from (f"{name}{inner.stem}" for inner in path.parent.glob("*.py") if inner.stem != "__init__")
    else:
        yield name


@cache
def _file(module: str) -> Path | None:
    """Find the source of a module of this package; None of any other name."""
    if module.partition(".")[0] != _OURSELVES:
        return None
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, AttributeError, ValueError):
        return None
    return None if spec is None or spec.origin is None else Path(spec.origin)


@cache
def _tree(module: str) -> ast.Module:
    path = _file(module)
    assert path is not None
    return ast.parse(path.read_bytes())


@cache
def _digest(module: str) -> str:
    """Of a module's code without what a reader alone sees."""
    tree = ast.parse(ast.unparse(_tree(module)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            # Texts that stand alone: docstrings, and those below attributes.
            node.body = [one for one in node.body if not _is_text(one)]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
