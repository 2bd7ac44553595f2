"""How much memory is free on this machine, and sizes as people write them. Loads torch where a device is asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

#: Control groups without a limit state one near 2^63.
_NO_LIMIT = 2**60


def free_bytes(device: torch.device) -> int | None:
    """Count the bytes that may still be taken on a device, as of now; None where nobody says.

    On a GPU that is what the driver has left and what torch holds without using it. In main memory it is what the
    kernel could give, and no more than the control groups of this process leave.
    """
    import torch

    if device.type == "cpu":
        return host_free_bytes()
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    return None


def host_free_bytes(root: Path = Path("/")) -> int | None:
    """Count the bytes of main memory that this process may still take; None where nobody says.

    Args:
        root: Of the file system in which /proc and /sys stand.
    """
    found = [*_of_the_kernel(root), *_of_control_groups(root)]
    if found:
        return max(0, min(found))
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not a system that counts them
        return None


def bytes_text(count: float) -> str:
    """Write a number of bytes as people do."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _of_the_kernel(root: Path) -> Iterator[int]:
    for line in _lines(root / "proc/meminfo"):
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            yield 1024 * int(rest.split()[0])


def _of_control_groups(root: Path) -> Iterator[int]:
    """Yield what each limit leaves, of version 1 and 2; pages of files that can be dropped do not count as taken."""
    top = root / "sys/fs/cgroup"
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            folder, names = top, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            folder, names = top / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # In a container the path may be the host's, and the group's own files stand at the top.
        inner = (folder / path.strip().lstrip("/")).resolve()
        while True:
            limit, taken = (_number(inner / name) for name in names[:2])
            if limit is not None and taken is not None and limit < _NO_LIMIT:
                yield limit - taken + _statistic(inner / "memory.stat", names[2])
            if inner == folder or folder not in inner.parents:
                break
            inner = inner.parent


def _statistic(path: Path, name: str) -> int:
    return next((int(line.split()[1]) for line in _lines(path) if line.startswith(f"{name} ")), 0)


def _number(path: Path) -> int | None:
    """Read the number that a file holds; None where it holds a word, or is not there."""
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdecimal() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
