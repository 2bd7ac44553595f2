"""Makes of `docs/` what the site is built from, and of its table of contents `llms.txt`.

    python docs/stage.py build/pages

Pages link to source files of the repository, as one wants them where the repository is browsed. A site has no such
files: here each that is linked becomes a page of its own, and the link leads there.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent

#: A link or a picture of Markdown, apart from its text.
_LINK = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")
#: Code, in which nothing is a link.
_CODE = re.compile(r"(^```.*?^```$|`[^`\n]+`)", re.DOTALL | re.MULTILINE)
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".md": "markdown", ".txt": "text", ".cfg": "ini"}


def prose(text: str) -> str:
    """Strip a page of its code."""
    return _CODE.sub("", text)


def links(text: str) -> list[str]:
    """Targets of all links of a page, in order."""
    return _LINK.findall(prose(text))


def stage(out: Path) -> None:
    """Write everything that the site is built from into a folder, which is emptied before."""
    shutil.rmtree(out, ignore_errors=True)
    linked: set[Path] = set()
    for path in sorted(DOCS.rglob("*")):
        place = out / path.relative_to(DOCS)
        if path.is_dir() or path.suffix in (".py", ".pyc"):
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            place.write_text(_relinked(path, linked), encoding="utf-8")
        else:
            shutil.copyfile(path, place)
    for path in _with_files_of_folders(linked):
        place = out / _source_page(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(_page_of(path), encoding="utf-8")


def _relinked(page: Path, linked: set[Path]) -> str:
    """Lead a page's links to source files to their pages; the files are added to `linked`."""

    def turned(found: re.Match[str]) -> str:
        target = found.group(1).partition("#")[0]
        if "://" in target or target.startswith("mailto:") or not target:
            return found.group(1)
        path = (page.parent / target).resolve()
        if path.is_relative_to(DOCS):
            return found.group(1)
        if path == ROOT / "README.md":
            return _relative(Path("index.md"), page)
        linked.add(path)
        return _relative(_source_page(path), page)

    parts = _CODE.split(page.read_text(encoding="utf-8"))  # every second one is code
    return "".join(part if number % 2 else _LINK.sub(turned, part) for number, part in enumerate(parts))


def _relative(target: Path, page: Path) -> str:
    return os.path.relpath(DOCS / target, page.parent).replace(os.sep, "/")


def _source_page(path: Path) -> Path:
    """Where in the site the page of a source file or folder lies."""
    name = path.relative_to(ROOT)
    return Path("source") / (name / "index.md" if path.is_dir() else name.with_name(f"{name.name}.md"))


def _with_files_of_folders(paths: set[Path]) -> Iterator[Path]:
    for path in sorted(paths):
        yield path
        if path.is_dir():
            yield from (file for file in _modules(path) if file not in paths)


def _modules(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.py"))


def _page_of(path: Path) -> str:
    """Make a page that no search finds, with a file's text or with what a folder holds."""
    head = "---\nsearch:\n  exclude: true\n---\n"
    name = path.relative_to(ROOT).as_posix()
    if path.is_dir():
        listed = [f"- [{file.name}]({file.name}.md): {_about(file)}" for file in _modules(path)]
        return "\n".join([f"{head}# {name}\n", *listed, ""])
    text = path.read_text(encoding="utf-8")
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    return f"{head}# {name}\n\n{fence}{_LANGUAGES.get(path.suffix, 'text')}\n{text.rstrip()}\n{fence}\n"


def _about(file: Path) -> str:
    """Find the first sentence of a module's docstring, as text."""
    said = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return re.sub(r"([\[\]<*_])", r"\\\1", " ".join(said.partition("\n\n")[0].split()))


# For machine readers ------------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """Reads `mkdocs.yml`, whose tags are none of ours."""


_Loader.add_multi_constructor("", lambda loader, suffix, node: None)


def settings() -> dict[str, Any]:
    """Say what `mkdocs.yml` says."""
    read: dict[str, Any] = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), _Loader)
    return read


def pages(nav: Any, heading: str = "") -> Iterator[tuple[str, str, str]]:
    """Heading, title and file of each page in a table of contents, in order."""
    for entry in nav:
        ((title, inside),) = entry.items() if isinstance(entry, dict) else ((None, entry),)
        if isinstance(inside, list):
            yield from pages(inside, heading or title)
        else:
            yield heading, title or title_of(inside), inside


def title_of(page: str) -> str:
    """Write the first heading of a page."""
    found = re.search(r"^# (.+)$", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE)
    return found.group(1) if found else page


def llms_text() -> str:
    """`llms.txt`: every page with its first sentence, by the headings of the table of contents."""
    lines = [f"# {settings()['site_name']}", "", f"> {settings()['site_description']}", ""]
    lines += ["Rules for working in this repository: [AGENTS.md](AGENTS.md).", ""]
    last = None
    for heading, title, page in pages(settings()["nav"]):
        if heading != last:
            lines += ([""] if last is not None else []) + ([f"## {heading}", ""] if heading else [])
            last = heading
        said = _first_sentence(page)
        lines.append(f"- [{title}](docs/{page})" + (f": {said}" if said else ""))
    return "\n".join(lines) + "\n"


def _first_sentence(page: str) -> str:
    text = (DOCS / page).read_text(encoding="utf-8")
    body = re.sub(
        r"^(#|!|\||:::|```|<!--).*$",
        "",
        _CODE.sub(lambda found: found.group() if "\n" not in found.group() else "", text),
        flags=re.MULTILINE,
    )
    paragraph = next((part for part in re.split(r"\n\s*\n", body) if part.strip()), "")
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(paragraph.split()))
    return re.split(r"(?<=[.?!])\s", plain)[0].rstrip(":")


if __name__ == "__main__":
    stage(Path(sys.argv[1]))
    (ROOT / "llms.txt").write_text(llms_text(), encoding="utf-8")
