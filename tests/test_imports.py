"""Importing a package is light: what costs seconds loads only when something needs it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {"torch", "transformers", "stable_baselines3", "matplotlib", "pandas", "pyarrow"}


@pytest.mark.parametrize("package", ["duelenv", "duelenv.oracles", "duelenv.agents", "duelenv.experiments"])
def test_importing_a_package_loads_nothing_heavy(package: str) -> None:
    script = f"import json, sys, {package}; print(json.dumps(sorted(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True).stdout
    modules = set(json.loads(output))
    assert package in modules
    assert not modules & HEAVY
