"""Lines, floors and circles of `experiments/` at commits: `python .ci/floors.py c880e2b~1 HEAD`.

A floor is the length of the longest chain of imports down from a module, in which a circle is one step; imports inside
functions count, those for types alone do not. A circle is a set of units each of which imports all of the set, by
way of others or not; units are modules, and then rooms (what lies directly in the folder: a folder, or a module).
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import grimp
import numpy as np
from scipy.sparse.csgraph import connected_components

ROOT = "duelenv.experiments"


def copy_of(commit: str, folder: Path) -> None:
    """Lay the packages of a commit out as they are imported."""
    done = subprocess.run(["git", "archive", commit, "duelenv", "experiments"], capture_output=True, check=True)
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    (folder / "experiments").rename(folder / "duelenv" / "experiments")


def imports_below(folder: Path) -> dict[str, set[str]]:
    """Say what each module of the experiments imports of the others."""
    sys.path.insert(0, str(folder))
    try:
        graph = grimp.build_graph("duelenv", exclude_type_checking_imports=True, cache_dir=None)
    finally:
        sys.path.remove(str(folder))
    names = {name for name in graph.modules if name.startswith(f"{ROOT}.")}
    return {name: graph.find_modules_directly_imported_by(name) & names for name in names}


def rooms_of(imports: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Find the same between what lies directly in the folder."""

    def room(name: str) -> str:
        return name.split(".")[2]

    found: dict[str, set[str]] = {room(name): set() for name in imports}
    for name, others in imports.items():
        found[room(name)] |= {room(other) for other in others} - {room(name)}
    return found


def floors_and_circles(imports: Mapping[str, set[str]]) -> tuple[int, int]:
    """How many floors there are, and how many circles of more than one unit."""
    names = sorted(imports)
    matrix = np.array([[other in imports[name] for other in names] for name in names])
    _, circle = connected_components(matrix, directed=True, connection="strong")
    below = {number: set(circle[matrix[circle == number].any(axis=0)]) - {number} for number in set(circle)}
    floors: dict[int, int] = {}

    def floor(number: int) -> int:
        if number not in floors:
            floors[number] = 1 + max((floor(other) for other in below[number]), default=0)
        return floors[number]

    return max(map(floor, below)), int((np.bincount(circle) > 1).sum())


if __name__ == "__main__":
    print("commit    modules  lines  longest  floors  circles  rooms  floors  circles")
    for commit in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as folder:
            copy_of(commit, Path(folder))
            files = list((Path(folder) / "duelenv" / "experiments").rglob("*.py"))
            lines = [len(path.read_text(encoding="utf-8").splitlines()) for path in files]
            imports = imports_below(Path(folder))
            rooms = rooms_of(imports)
            numbers = (len(files), sum(lines), max(lines), *floors_and_circles(imports), len(rooms))
            print(f"{commit:<10}" + "{:7}{:7}{:9}{:8}{:9}{:7}{:8}{:9}".format(*numbers, *floors_and_circles(rooms)))
