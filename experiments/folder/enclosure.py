"""What a run folder may be made of: folders and plain files of its own. Opens none of them.

A folder that somebody else packed may hold links: what is written to `run.lock` would end up in another file, and what
is read as a model would be somebody's key. A pipe in place of a file keeps its reader waiting for ever.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from duelenv.ground.errors import UserError

__all__ = ["check_enclosed"]


def check_enclosed(root: Path) -> None:
    """Refuse a run folder in which a link leads out of it, or something is neither a file nor a folder.

    The folder itself may be reached by a link, and links within it are followed by nobody but the system.

    Raises:
        UserError: There is one.
    """
    home = root.resolve()
    for entry in _entries(home):
        path = Path(entry.path)
        if entry.is_symlink():
            if not path.resolve().is_relative_to(home):
                raise UserError(
                    f"{str(root / path.relative_to(home))!r} is a link to {os.readlink(path)!r}, which is not in the "
                    "run folder: put what it leads to in its place, or remove the link"
                )
        elif not entry.is_file() and not entry.is_dir():
            raise UserError(
                f"{str(root / path.relative_to(home))!r} is neither a file nor a folder, expected nothing else in a "
                "run folder: remove it"
            )


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield all that lies below a folder; links are not followed."""
    waiting = [str(folder)] if folder.is_dir() else []
    while waiting:
        try:
            with os.scandir(waiting.pop()) as found:
                for entry in found:
                    yield entry
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except FileNotFoundError:  # removed by a process that plays here
            continue
