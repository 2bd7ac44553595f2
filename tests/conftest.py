"""What every test relies on: one thread per process, no network, no display, the same examples each time."""

import os

# Before anything imports NumPy or torch, which read these once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["HF_HUB_OFFLINE"] = "1"

import copy
import gc
import sys

import pytest
from hypothesis import settings

settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")

#: Tests of the trial of models, in which every model is tried anew.
TRIALS = {f"policies/test_{name}.py" for name in ("families", "loading", "shared_prompt")}


def pytest_collection_modifyitems(items):
    """Begin with the files that hold slow tests: what is begun last is what everybody waits for."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish():
    """Take what importing and collecting have left, a million objects, out of every later look of the collector."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _known_shortcuts(request, monkeypatch):
    """Spares each policy that tests build the trial of its model, four fifths of what building it takes."""
    if "duelenv.policies.causal_lm" in sys.modules and "/".join(request.path.parts[-2:]) not in TRIALS:
        from known_shortcuts import find_shortcuts_once

        monkeypatch.setattr("duelenv.policies.causal_lm.find_shortcuts", find_shortcuts_once)


@pytest.fixture
def own_registries(monkeypatch):
    """Forgets afterwards what parts a test has registered, of every kind."""
    from duelenv.experiments.config.kinds import KINDS

    for kind in KINDS:
        monkeypatch.setattr(kind.registry, "_parts", copy.copy(kind.registry._parts))
