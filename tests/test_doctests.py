"""The examples in docstrings say what happens.

`--doctest-modules` is no way to run them: it would load every file a second time, by its path.
"""

from __future__ import annotations

import doctest
import importlib
import pathlib
import pkgutil

import pytest

# Each on its own: in a checkout the lower three do not lie inside the folder of the first.
PACKAGES = ("duelenv", "duelenv.oracles", "duelenv.agents", "duelenv.experiments")


def modules() -> list[str]:
    """Names of all modules of the four packages, each once."""
    names = set(PACKAGES)
    for package in PACKAGES:
        path = importlib.import_module(package).__path__
        names.update(module.name for module in pkgutil.walk_packages(path, f"{package}."))
    return sorted(name for name in names if not name.endswith(".__main__"))


def test_the_walk_reaches_every_package() -> None:
    found = {
        "duelenv.core",
        "duelenv.policies.causal_lm",
        "duelenv.oracles.base",
        "duelenv.agents.losses",
        "duelenv.agents.beliefs.base",
        "duelenv.experiments.commands.cli",
    }
    assert found <= set(modules())


@pytest.mark.parametrize("name", modules())
def test_examples_in_docstrings(name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(name)
    monkeypatch.chdir(tmp_path)  # an example may write files
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.testmod(module, optionflags=flags).failed == 0
