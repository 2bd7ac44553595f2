"""The notebook runs as it stands, prints what stands in it, and is the page that shows it."""

import importlib.util
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
pytestmark = pytest.mark.usefixtures("own_registries")
NUMBER = re.compile(r"[+-]?\d+\.\d+|[+-]?\d+")


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("notebook", DOCS / "notebook.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def text_of(output):
    return "".join(output["text"] if output["output_type"] == "stream" else output["data"]["text/plain"])


def test_cells_give_what_stands_in_the_notebook(tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    notebook = tool.read()
    cells = list(tool.run(notebook))
    assert len(cells) == 7
    for cell, outputs in cells:
        assert [output["output_type"] for output in outputs] == [one["output_type"] for one in cell["outputs"]]
        for found, kept in zip(outputs, cell["outputs"], strict=True):
            assert ("image/png" in found.get("data", {})) == ("image/png" in kept.get("data", {}))
            if "image/png" in found.get("data", {}):
                continue
            assert NUMBER.sub("#", text_of(found)) == NUMBER.sub("#", text_of(kept))
            numbers = [[float(number) for number in NUMBER.findall(text_of(one))] for one in (found, kept)]
            assert numbers[0] == pytest.approx(numbers[1], rel=0.05, abs=0.02)  # other processors round otherwise


def test_the_page_and_its_figures_are_the_notebook(tool):
    text, figures = tool.page(tool.read())
    assert tool.PAGE.read_text(encoding="utf-8") == text
    assert len(figures) == 3
    for name, content in figures.items():
        assert (tool.FIGURES / name).read_bytes() == content


def test_links_lead_somewhere_from_the_page_and_from_the_notebook(tool):
    said = "\n".join("".join(cell["source"]) for cell in tool.read()["cells"])
    for folder, text in ((DOCS, tool.PAGE.read_text(encoding="utf-8")), (tool.NOTEBOOK.parent, said)):
        targets = re.findall(r"\]\(([^)]+)\)", text)
        assert len(targets) >= 7
        assert all((folder / target).exists() for target in targets), targets
