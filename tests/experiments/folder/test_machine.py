"""What a cell was played on: read in the process that plays, written once as long as nothing changes."""

import os
import subprocess
import sys

import numpy as np
import pytest

from duelenv.experiments.folder.machine import add_player, describe_machine, players


def test_threads_are_those_of_the_loaded_libraries():
    """In a process of its own, since both libraries take their threads once."""
    code = (
        "import numpy; from duelenv.experiments.folder.machine import describe_machine; print(describe_machine()); "
        "import torch; torch.set_num_threads(3); print(describe_machine()['torch_threads'])"
    )
    variables = {**os.environ, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert "'omp_num_threads': '2'" in first and "'blas_threads': 1" in first and "'torch_threads': None" in first
    assert second == "3"


def test_versions_are_those_that_are_imported(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    found = describe_machine()
    assert found["versions"]["numpy"] == np.__version__
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["omp_num_threads"] is None


def test_a_player_is_written_when_it_differs_from_the_last(tmp_path):
    path = tmp_path / "played_on.json"
    assert players(path) == []
    for one in ("a", "a", "b", "a"):
        add_player(path, {"processor": one})
    assert [one["processor"] for one in players(path)] == ["a", "b", "a"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"players": [{"processor": "changed"}]}', b"\xff"])
def test_a_damaged_file_is_begun_anew(tmp_path, content):
    path = tmp_path / "played_on.json"
    path.write_bytes(content)
    assert players(path) == []
    add_player(path, {"processor": "a"})
    assert players(path) == [{"processor": "a"}]
