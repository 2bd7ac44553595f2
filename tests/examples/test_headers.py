"""Each example says in its header (PEP 723) what it needs, says in its docstring what comes out, and is short."""

import ast
import functools
import re
import sys
import tomllib
from configparser import ConfigParser
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
#: The reference implementation of PEP 723.
BLOCK = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")

of_each = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)


def metadata(script):
    """The one block of metadata of a script."""
    (found,) = BLOCK.finditer(script.read_text(encoding="utf-8"))
    assert found["type"] == "script"
    return tomllib.loads("".join(re.sub("^# ?", "", line) for line in found["content"].splitlines(keepends=True)))


def needed(script):
    """Requirements of a script by their canonical names."""
    found = [Requirement(text) for text in metadata(script)["dependencies"]]
    return {canonicalize_name(one.name): one for one in found}


distributions = functools.cache(packages_distributions)  # reads the whole environment


def imported(script):
    """Distributions whose modules a script imports anywhere."""
    names = set()
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    top = {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names)
    known = distributions()
    return {canonicalize_name(known.get(name, [name])[0]) for name in top}  # what is not installed is called alike


@pytest.fixture(scope="module")
def setup():
    parsed = ConfigParser()
    parsed.read(ROOT / "setup.cfg", encoding="utf-8")
    return parsed


@of_each
def test_every_import_is_in_the_header_and_nothing_else(script):
    assert imported(script) == set(needed(script))


@of_each
def test_a_header_asks_for_no_other_python_and_no_package_that_this_project_does_not_know(script, setup):
    assert SpecifierSet(metadata(script)["requires-python"]) == SpecifierSet(setup["options"]["python_requires"])
    lists = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    known = {
        canonicalize_name(Requirement(line).name)
        for text in lists
        for line in text.splitlines()
        if line and not line.startswith("#")
    }
    own = needed(script)["duelenv"]
    assert own.extras <= set(setup["options.extras_require"])
    assert set(needed(script)) - {"duelenv"} <= known


@of_each
def test_duelenv_itself_comes_from_this_checkout(script):
    """It is on no registry under this name, and somebody else's package of it would be installed."""
    source = metadata(script)["tool"]["uv"]["sources"]["duelenv"]
    assert (EXAMPLES / source["path"] / "setup.cfg").resolve() == ROOT / "setup.cfg"


@of_each
def test_an_example_says_how_it_is_run_and_what_comes_out_and_is_short(script):
    text = script.read_text(encoding="utf-8")
    tree = ast.parse(text)
    said = " ".join(ast.get_docstring(tree).split())
    assert re.search(rf"(python|accelerate launch.*?) examples/{script.name}", said)
    assert re.search(r"Out comes? ", said)
    code = text.splitlines()[tree.body[0].end_lineno :]
    assert sum(bool(line.strip()) for line in code) <= 80


@of_each
def test_importing_an_example_runs_nothing(script):
    allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.FunctionDef, ast.ClassDef)
    _, *definitions, last = ast.parse(script.read_text(encoding="utf-8")).body
    assert ast.unparse(last).startswith("if __name__ == '__main__':")
    others = [ast.unparse(node) for node in definitions if not isinstance(node, allowed)]
    assert all(other.startswith("gymnasium.register(") for other in others), others
