"""Which page holds what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from duelenv.experiments.reference.agents_page import agents_page
from duelenv.experiments.reference.command_page import command_page
from duelenv.experiments.reference.config_page import config_page
from duelenv.experiments.reference.folder_page import folder_page
from duelenv.experiments.reference.parts_page import parts_page

__all__ = ["PAGES"]

#: By file name.
PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "agents.md": agents_page,
    "command_line.md": command_page,
    "config.md": config_page,
    "parts.md": parts_page,
    "run_folder.md": folder_page,
}
