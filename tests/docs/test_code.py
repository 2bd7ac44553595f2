"""Every piece of Python in the documentation runs as it stands."""

import gymnasium
import pytest
from pages import PAGES, blocks, name_of

#: What they print has a test of its own: `test_readme.py`, `test_python_page.py` and `test_notebook.py`.
ELSEWHERE = ("README.md", "docs/python.md", "docs/first_look.md")
WITH_CODE = [
    page for page in PAGES if name_of(page) not in ELSEWHERE and any(b.language == "python" for b in blocks(page))
]


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch, own_registries):
    """A page may register parts and write files: afterwards there are none."""
    monkeypatch.chdir(tmp_path)
    worlds = set(gymnasium.registry)
    yield
    for world in set(gymnasium.registry) - worlds:
        del gymnasium.registry[world]


@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_python_on_the_page_runs(page):
    for block in blocks(page):
        if block.language == "python" and not block.note:
            exec(compile("\n" * (block.line - 1) + block.text, name_of(page), "exec"), {"__name__": "page"})


def test_what_does_not_run_says_why_and_is_little():
    left_out = [block.note for page in WITH_CODE for block in blocks(page) if block.language == "python" and block.note]
    assert all(len(note) > 10 for note in left_out)
    assert len(left_out) <= 4
