"""Files that are whole or absent, and what kind of disk they lie on; not what stands in them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from duelenv.ground.errors import UserError

#: Where several machines see the same files, as the system names them.
_NETWORK: Final = frozenset(
    "nfs nfs4 cifs smb3 smbfs ncpfs afs coda 9p ceph lustre gpfs beegfs panfs glusterfs ocfs2 gfs gfs2 orangefs "
    "fuse.sshfs fuse.glusterfs fuse.ceph fuse.s3fs fuse.gcsfuse fuse.rclone fuse.mergerfs wekafs virtiofs".split()
)
_MOUNTS: Final = Path("/proc/self/mountinfo")


@contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` that replaces it when the block ends without an exception.

    After the block the new content is on the disk, not only on its way there.

    Raises:
        UserError: The disk refuses.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with refusals_said(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.unlink(missing_ok=True)  # of a process that died; or a link that a stranger laid there
            with temporary.open("xb") as stream:  # which follows no link
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
            _sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Lend an empty folder beside `path` that replaces it, with all that it holds, when the block ends normally.

    After the block its files are on the disk. Of one that was there before, nothing is left.

    Raises:
        UserError: The disk refuses.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with refusals_said(path):
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            yield temporary
            for there in temporary.rglob("*"):
                if there.is_dir():
                    _sync_folder(there)
                else:
                    with there.open("rb") as stream:
                        os.fsync(stream.fileno())
            _sync_folder(temporary)
            if path.exists():
                shutil.rmtree(path)
            temporary.replace(path)
            _sync_folder(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def append(path: Path, content: bytes) -> None:
    """Add to the end of a file, on the disk when this returns.

    Raises:
        UserError: The disk refuses.
    """
    with refusals_said(path), path.open("ab") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


@contextmanager
def refusals_said(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into a sentence."""
    try:
        yield
    except (IsADirectoryError, FileExistsError, NotADirectoryError) as error:
        there = next((one for one in (path, *path.parents) if one.is_symlink() or one.exists()), path)
        kind = "a directory" if there.is_dir() else "a link to nothing" if not there.exists() else "a file"
        wanted = "a file" if there == path else "a directory"
        raise UserError(
            f"cannot write {str(path)!r}: {str(there)!r} is {kind}, expected {wanted}; move it away and run the same "
            "command again"
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot write {str(path)!r} ({error.strerror or error}): free space on the disk, or correct its "
            "permissions, and run the same command again"
        ) from error


def _sync_folder(folder: Path) -> None:
    """Bring a folder's own entries to the disk, where the system lets folders be opened."""
    if os.name != "posix":
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some file systems cannot, and then there is nothing more to be done
            os.fsync(number)
    finally:
        os.close(number)


def on_a_network(path: Path) -> bool:
    """Tell whether a folder lies on a file system that other machines may see, as far as this system says."""
    place = str(path.absolute())
    best, kind = "", ""
    for mount, found in _mounts():
        inside = place == mount or place.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, found
    return kind in _NETWORK


def _mounts() -> Iterator[tuple[str, str]]:
    """Yield where file systems are mounted, and of what kind they are."""
    if not _MOUNTS.exists():
        return
    for line in _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines():
        before, separator, after = line.partition(" - ")
        if separator:
            yield before.split()[4].encode().decode("unicode_escape", errors="replace"), after.split()[0]
