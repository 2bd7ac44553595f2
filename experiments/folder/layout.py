"""Where things lie in a run folder, and which of its cells are finished. Writes nothing but what marks a cell.

- `run.json`, what the run is and what the files that it reads held; `config.yaml`, its resolved config, for people;
  `environment.json`, what it ran on; `run.lock`, held while it runs;
- `cells/NAME/`, one folder a cell: its ledger, checkpoint and records, its results, and `done.json`, which seals them;
- `results.parquet` and `labels.parquet`, put together from the cells; tables, figures and `report.html`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from duelenv.experiments.folder import files

__all__ = ["AGENT", "LONGEST_NAME", "PRODUCTS", "CellFolder", "RunFolder"]

#: A name of this many bytes still fits a file's, with an ending.
LONGEST_NAME = 200
#: The file of a rescued agent's state, in `CellFolder.diverged`.
AGENT: Final = "agent.npz"
#: What a finished cell leaves, by file name.
PRODUCTS: Final = ("result.parquet", "examples.json", "references.json")


@dataclass(frozen=True)
class CellFolder:
    """The folder of one cell."""

    path: Path

    @property
    def lock(self) -> Path:
        """Held by the process that plays the cell."""
        return self.path / "cell.lock"

    @property
    def owner(self) -> Path:
        """Says which cell of which run this is."""
        return self.path / "cell.json"

    @property
    def players(self) -> Path:
        """On what it was played."""
        return self.path / "played_on.json"

    @property
    def checkpoint(self) -> Path:
        """The cell as it stood after some round."""
        return self.path / "checkpoint.npz"

    @property
    def records(self) -> Path:
        """What was measured, a line each time, as it was measured."""
        return self.path / "records.jsonl"

    @property
    def progress(self) -> Path:
        """How far it is; for the bar on the screen."""
        return self.path / "progress.json"

    @property
    def error(self) -> Path:
        """The traceback of what stopped it."""
        return self.path / "error.txt"

    @property
    def refusal(self) -> Path:
        """The sentence with which it was refused, as where nobody answers or a gradient is not finite."""
        return self.path / "refused.txt"

    @property
    def diverged(self) -> Path:
        """Folder of the agent and its policy from before a gradient step that was not finite."""
        return self.path / "diverged"

    @property
    def result(self) -> Path:
        """What was measured, as a table."""
        return self.path / "result.parquet"

    @property
    def examples(self) -> Path:
        """Responses before and after learning."""
        return self.path / "examples.json"

    @property
    def references(self) -> Path:
        """What rules achieve that learn nothing."""
        return self.path / "references.json"

    @property
    def model(self) -> Path:
        """Folder of the trained policy, as transformers loads it."""
        return self.path / "model"

    def best(self, step: int) -> Path:
        """Name the folder of the policy as it stood after a step, where the best one is looked for."""
        return self.path / f"best-{step:06d}"

    @property
    def done(self) -> Path:
        """Seals the products of a finished cell."""
        return self.path / "done.json"

    def seal(self, names: Sequence[str]) -> None:
        """Mark the cell as finished, with products of these names, and with its model where there is one."""
        digests = {name: files.digest_of(self.path / name) for name in names}
        model = {
            name: [(self.model / name).stat().st_size, digest] for name, digest in files.digests_of(self.model).items()
        }
        files.write_sealed(self.done, {"products": digests, "model": model})

    @property
    def finished(self) -> bool:
        """Whether all of its products are there, as they were written.

        Of a model, which may be large, only the files' sizes are looked at here; see `damaged_model`.
        """
        sealed = files.read_sealed(self.done)
        if sealed is None:
            return False
        paths = {self.model / name: size for name, (size, _) in sealed.get("model", {}).items()}
        return all(path.is_file() and path.stat().st_size == size for path, size in paths.items()) and all(
            digest is not None and files.digest_of(self.path / name) == digest
            for name, digest in sealed["products"].items()
        )

    @property
    def model_files(self) -> list[str]:
        """The files of the model of a finished cell; none where it left no model."""
        sealed = files.read_sealed(self.done)
        return [] if sealed is None else list(sealed.get("model", {}))

    def damaged_model(self) -> str | None:
        """Find the first file of a finished cell's model that is not as it was written; None where all are."""
        sealed = files.read_sealed(self.done) or {}
        for name, (_, digest) in sealed.get("model", {}).items():
            if files.digest_of(self.model / name) != digest:
                return str(name)
        return None


@dataclass(frozen=True)
class RunFolder:
    """A run folder."""

    root: Path

    @property
    def marker(self) -> Path:
        """What the run is."""
        return self.root / "run.json"

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.root / "config.yaml"

    @property
    def lock(self) -> Path:
        """Held by the process that runs it."""
        return self.root / "run.lock"

    @property
    def environment(self) -> Path:
        """What it ran on, at each start."""
        return self.root / "environment.json"

    @property
    def fuse(self) -> Path:
        """How much each cell has spent, where the run has a fuse."""
        return self.root / "spent.sqlite"

    @property
    def home(self) -> Path:
        """Folder of what oracles keep."""
        return self.root / "oracles"

    @property
    def scores(self) -> Path:
        """What reward servers have scored, among what oracles keep."""
        return self.home / "reward_servers.sqlite"

    @property
    def trials_of_cascades(self) -> list[Path]:
        """What cascades asked of both of their oracles, among what oracles keep; a file each that is there."""
        return sorted(self.home.glob("cascade-*.jsonl"))

    @property
    def trackers(self) -> Path:
        """Folder of what trackers keep."""
        return self.root / "trackers"

    @property
    def purse(self) -> Path:
        """What oracles have spent in tokens and money."""
        return self.root / "purse.sqlite"

    @property
    def spending(self) -> Path:
        """What oracles had spent when the report was written."""
        return self.root / "spending.json"

    @property
    def results(self) -> Path:
        """The results of all finished cells."""
        return self.root / "results.parquet"

    @property
    def labels(self) -> Path:
        """The labels of all finished cells."""
        return self.root / "labels.parquet"

    @property
    def report(self) -> Path:
        """The page about the run."""
        return self.root / "report.html"

    def table(self, name: str, kind: str) -> Path:
        """Find the file of a table of the report, `md` or `csv`."""
        return self.root / f"{name}.{kind}"

    def figure(self, name: str, kind: str) -> Path:
        """Find the file of a figure of the report, `svg` or `png`."""
        return self.root / "figures" / f"{name}.{kind}"

    @property
    def cells(self) -> Path:
        """Holds the folders of cells."""
        return self.root / "cells"

    def cell(self, name: str) -> CellFolder:
        """Find the folder of a cell."""
        return CellFolder(self.cells / name)
