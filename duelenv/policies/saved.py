"""The record in the folder of a saved policy: its settings, versions and roles, and where each part lies.

Not for weights: `export` and `roles` write and read those.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from duelenv.ground.errors import UserError

#: Settings of a policy that go with it, by the names of its constructor.
SETTINGS: Final = ("max_new_tokens", "temperature", "chat_template", "chat_template_kwargs", "max_sequences")

_FILE: Final = "policy.json"
_FORMAT: Final = 2


class Places(NamedTuple):
    """Folders of the parts of a saved policy."""

    policy: Path
    roles: Path
    tokenizer: Path


@dataclass(frozen=True)
class Record:
    """What a policy's folder says beside its weights.

    Attributes:
        version: How many updates the weights have had.
        reference_version: The version that the reference is a copy of.
        reference_moved: Whether it is a copy at all, or the start.
        adapter: Name of the adapter that is trained; None where all weights are.
        settings: Of `SETTINGS` those that the folder has.
        format: Of the folder.
    """

    version: int
    reference_version: int
    reference_moved: bool
    adapter: str | None
    settings: dict[str, Any]
    format: int = _FORMAT

    def write(self, folder: Path) -> None:
        """Write the record into a policy's folder."""
        record = asdict(self)
        written = {**record.pop("settings"), **record}
        (folder / _FILE).write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Record:
        """Read it again.

        Raises:
            UserError: No policy is saved there, or one of a newer format.
        """
        path = folder / _FILE
        if not path.is_file():
            raise UserError(f"{str(folder)!r} holds no saved policy; expected a folder written by save()")
        written = json.loads(path.read_text(encoding="utf-8"))
        if written["format"] not in (1, _FORMAT):
            raise UserError(
                f"{str(folder)!r} has the format {written['format']}; this version reads formats 1 and {_FORMAT}: load "
                "it with the version that wrote it"
            )
        return cls(
            version=written["version"],
            reference_version=written.get("reference_version", 0),  # version 0.1 does not say when its reference moved
            reference_moved=written["reference_moved"],
            adapter=written["adapter"],
            settings={name: written[name] for name in SETTINGS if name in written},
            format=written["format"],
        )

    def places(self, folder: Path) -> Places:
        """Tell where the parts lie."""
        if self.format == _FORMAT:
            return Places(folder, folder, folder)
        # Version 0.1: PEFT had put every adapter that is not called "default" one folder deeper.
        policy = folder / "policy"
        roles = folder if self.adapter is None else policy
        return Places(
            policy if self.adapter in (None, "default") else policy / self.adapter, roles, folder / "tokenizer"
        )
