"""How files of a run folder are written and read: whole or absent, and found out where they are not as written.

What stands in them is known to whoever calls.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from duelenv.ground.files import append, atomic, atomic_folder

__all__ = [
    "append",
    "atomic",
    "atomic_folder",
    "digest_of",
    "digests_of",
    "read_sealed",
    "write_json",
    "write_sealed",
    "write_text",
]


def write_text(path: Path, text: str) -> None:
    """Write text to `path`, all of it or nothing."""
    with atomic(path) as stream:
        # Half a surrogate pair becomes its escape, which JSON reads back.
        stream.write(text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON to `path`, all of it or nothing."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_sealed(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object with a seal of its own content, by which `read_sealed` knows whether it was changed."""
    write_json(path, {**value, "seal": _seal(value)})


def read_sealed(path: Path) -> dict[str, Any] | None:
    """Return what `write_sealed` wrote, without the seal; None where the file is missing or not as it was written."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):  # the last where somebody nested it for the purpose
        return None
    if not isinstance(value, dict) or value.pop("seal", None) != _seal(value):
        return None
    return value


def digest_of(path: Path) -> str | None:
    """Return the SHA-256 of a file's content, in hexadecimal; None where it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return None


def digests_of(folder: Path) -> dict[str, str | None]:
    """Return the SHA-256 of every file below a folder, by its path from there."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): digest_of(path) for path in paths}


def _seal(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
