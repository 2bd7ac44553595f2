"""The pages of the documentation as tests see them: their code, their commands, their links."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
#: Every page, and the files at the root that are written like one.
PAGES = [*sorted(DOCS.rglob("*.md")), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "AGENTS.md"))]


def stage_module() -> ModuleType:
    """`docs/stage.py`, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("docs_stage", DOCS / "stage.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def name_of(page: Path) -> str:
    """Its path from the root."""
    return page.relative_to(ROOT).as_posix()


class Block(NamedTuple):
    """A fenced piece of code."""

    language: str
    text: str
    note: str
    """What a comment `<!-- no-run: ... -->` before it says; empty without one."""
    line: int


def blocks(page: Path) -> list[Block]:
    """The fenced code of a page, in order."""
    found = []
    text = page.read_text(encoding="utf-8")
    for match in re.finditer(
        r"(?:^<!-- no-run: ([^\n]*) -->\n)?^( *)```(\w*)\n(.*?)^\2```$", text, re.DOTALL | re.MULTILINE
    ):
        note, _, language, code = match.groups()
        found.append(Block(language, code, note or "", text.count("\n", 0, match.start(4)) + 1))
    return found


def commands(page: Path) -> list[tuple[int, list[str]]]:
    """Line and words of every `duelenv` command in a page's blocks, without the variables before it."""
    found = []
    for block in blocks(page):
        if block.language not in ("", "bash", "console", "sh", "text"):
            continue
        for number, line in enumerate(re.sub(r"\\\n", "  ", block.text).splitlines()):
            begun = re.match(r"(?:\$ )?(?:\w+=(?:\$\([^)]*\)|\S*) )*(duelenv .*)", line)
            if begun and block.language != "text":
                words = shlex.split(begun.group(1), comments=True)
                end = next((place for place, word in enumerate(words) if word in (">", "|", "&")), len(words))
                found.append((block.line + number, words[:end]))
    return found


def anchors(page: Path) -> set[str]:
    """What a link into a page may name: its headings, as the site spells them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())
        count = sum(one == slug or re.fullmatch(re.escape(slug) + r"_\d+", one) is not None for one in found)
        found.add(f"{slug}_{count}" if count else slug)
    return found
