"""Which files decide what a run is."""

import sys

import pytest
from paid_runs import paid_run

from duelenv.experiments.config.contents import digest_of_modules, digest_of_path, names_a_file
from duelenv.experiments.config.identity import identify


@pytest.fixture
def code(tmp_path, monkeypatch):
    """A folder on the path, with packages of all kinds."""
    for name, text in {
        "single.py": "import beside\nfrom whole import inner\n",
        "beside.py": "import further, json, numpy\n",
        "further.py": "import beside\nVALUE = 1\n",
        "unused.py": "",
        "whole/__init__.py": "",
        "whole/inner.py": "from . import sibling\n",
        "whole/sibling.py": "",
        "bare/sub/oracle.py": "from bare.sub import helper\n",
        "bare/sub/helper.py": "",
        "bare/deep/package/__init__.py": "",
        "bare/deep/package/module.py": "",
        "bare/other.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in ("single", "beside", "further", "whole", "bare"):
        assert name not in sys.modules  # nothing was imported


@pytest.mark.parametrize(
    ("module", "decide"),
    [
        ("single", {"single.py", "beside.py", "further.py", "whole/__init__.py", "whole/inner.py"}),
        ("{}/single.py", {"single.py", "beside.py", "further.py", "whole/__init__.py", "whole/inner.py"}),
        ("whole.inner", {"whole/__init__.py", "whole/inner.py", "whole/sibling.py"}),
        ("bare.sub.oracle", {"bare/sub/oracle.py", "bare/sub/helper.py"}),
        ("bare.deep.package.module", {"bare/deep/package/__init__.py", "bare/deep/package/module.py"}),
        ("no_such_module", set()),
    ],
)
def test_code_is_what_a_module_brings_along(code, module, decide):
    name = module.format(code)
    before = digest_of_modules([name])
    deciding = set()
    for path in sorted(code.rglob("*.py")):
        text = path.read_text()
        path.write_text(text + "# changed\n")
        if digest_of_modules([name]) != before:
            deciding.add(str(path.relative_to(code)))
        path.write_text(text)
    assert deciding == decide
    assert digest_of_modules([name]) == before


def test_a_module_of_this_package_counts_by_its_name():
    # Runs that need one go on where the package was mended, as all others do.
    assert digest_of_modules(["duelenv.experiments.two_logits"]) == digest_of_modules(["no_such_module"])


def test_a_file_that_cannot_be_read_as_code_still_counts(tmp_path):
    (tmp_path / "broken.py").write_text("import (")
    before = digest_of_modules([str(tmp_path / "broken.py")])
    (tmp_path / "broken.py").write_text("import )")
    assert digest_of_modules([str(tmp_path / "broken.py")]) != before


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("oracle.anything", "{}/a.txt", True),
        ("oracle.weights", "a.txt", True),
        ("oracle.weights", "word", False),
        ("oracle.model", "word", True),
        ("policy.path", "folder", True),
        ("oracle.anything", "{}/folder", False),
        ("oracle.anything", "{}/missing.txt", False),
        ("oracle.anything", "x" * 5000 + "/y", False),
        ("oracle.anything", "a\0b/c", False),
        ("oracle.anything", "", False),
        ("labels", "a.txt", True),
        ("oracle.anything", 3, False),
    ],
)
def test_a_setting_names_a_file_where_it_looks_like_one_and_is_one(tmp_path, monkeypatch, key, value, named):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "word").write_text("a")
    (tmp_path / "folder").mkdir()
    value = value.format(tmp_path) if isinstance(value, str) else value
    assert names_a_file(key, value) is named


def test_a_file_of_an_oracles_settings_decides_what_the_run_is(tmp_path):
    (tmp_path / "value.txt").write_text("0.7")
    config = paid_run(tmp_path, oracle={"name": "paid", "folder": str(tmp_path), "error": str(tmp_path / "value.txt")})
    before = identify(config)
    assert before["contents"]["oracle.error"] == digest_of_path(tmp_path / "value.txt")
    (tmp_path / "value.txt").write_text("0.2")
    assert identify(config)["contents"]["oracle.error"] != before["contents"]["oracle.error"]
