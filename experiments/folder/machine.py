"""What a process computes on and with: processor, threads, versions. Two that agree here may still differ in digits.

Floating point depends on the order in which numbers are added up, and so on which instructions the libraries choose, on
threads and on versions; all of these are looked at in the process itself, when its libraries are loaded.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from functools import cache
from pathlib import Path
from typing import Any, Final

from duelenv.experiments.folder import files

__all__ = ["add_player", "describe_machine", "players"]

#: Packages whose versions are written down.
_PACKAGES: Final = ("duelenv", "numpy", "scipy", "torch", "transformers", "gymnasium", "joblib", "pyarrow")


def describe_machine() -> dict[str, Any]:
    """Return what this process computes on and with, as far as its libraries are loaded by now.

    Returns:
        `python`, `processor`, `cores`, `versions` by package; `torch_threads`, `torch_instructions` (None while torch
        is not loaded); `omp_num_threads`, the variable (None where it is not set); `blas_threads` and `blas_kernels`,
        such as "openblas Haswell", of the library that NumPy calls, which is loaded first (None where it is not known).
    """
    torch = sys.modules.get("torch")
    return {
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "torch_threads": None if torch is None else torch.get_num_threads(),
        "torch_instructions": None if torch is None else torch.backends.cpu.get_cpu_capability(),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        **_blas(),
        "versions": dict(_versions()),
    }


def add_player(path: Path, found: dict[str, Any]) -> None:
    """Write down that a process of this description plays the cell from here on.

    The file holds all that ever played it, the first one first; one that goes on alike is not written twice.
    """
    known = players(path)
    if not known or known[-1] != found:
        files.write_sealed(path, {"players": [*known, found]})


def players(path: Path) -> list[dict[str, Any]]:
    """Return what was written of each that played the cell; nothing where the file is missing or was changed."""
    known: list[dict[str, Any]] = (files.read_sealed(path) or {}).get("players", [])
    return known


def _blas() -> dict[str, Any]:
    from threadpoolctl import threadpool_info

    found: dict[str, Any] = next((one for one in threadpool_info() if one["user_api"] == "blas"), {})
    names = [str(found[key]) for key in ("internal_api", "architecture") if found.get(key)]
    return {"blas_threads": found.get("num_threads"), "blas_kernels": " ".join(names) or None}


@cache
def _versions() -> tuple[tuple[str, str], ...]:
    return tuple((package, _version(package)) for package in _PACKAGES)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


@cache
def _processor() -> str:
    """Find the processor's name, where the system tells it."""
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
