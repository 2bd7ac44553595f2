"""One kind of registry: names, places, settings, and files that are loaded again."""

import functools
import importlib.util
import sys
from types import ModuleType

import pytest

from duelenv import UserError
from duelenv.ground.registry import Registry


class Scale:
    def __init__(self, factor, offset=0.0):
        self.factor, self.offset = factor, offset


@pytest.fixture
def parts():
    registry = Registry("part", {"fraction": "fractions:Fraction.from_float", "scale": Scale})
    return registry


def shift(by, of, along=0):
    return by, of, along


def test_names_are_sorted_or_as_they_were_registered_and_some_may_stand_for_no_part():
    registry = Registry("part", {"b": Scale, "a": shift}, reserved=("none",))
    assert registry.names() == ("a", "b")
    assert registry.in_order() == ("b", "a")
    assert registry.known() == ("a", "b", "none")
    assert "none" not in registry
    with pytest.raises(UserError, match="did you mean 'none'"):
        registry["nine"]
    with pytest.raises(UserError, match="part 'none' is registered already"):
        registry.register("none", shift)


def test_a_part_is_found_where_it_lies(parts):
    from fractions import Fraction

    assert parts.names() == tuple(parts) == ("fraction", "scale")
    assert parts["fraction"] == Fraction.from_float
    assert parts.make("scale", {"factor": 2.0}).factor == 2.0
    assert len(parts) == 2 and "scale" in parts and "none" not in parts


def test_naming_a_part_imports_nothing():
    sys.modules.pop("antigravity_of_nobody", None)
    registry = Registry("part", {"missing": "antigravity_of_nobody:thing"})
    assert registry.names() == ("missing",)
    with pytest.raises(ModuleNotFoundError):
        registry["missing"]


def test_a_name_is_taken_once(parts):
    @parts.register("own")
    def own():
        return 1

    parts.register("own", own)
    with pytest.raises(UserError, match="part 'own' is registered already; choose another name"):
        parts.register("own", lambda: 2)
    with pytest.raises(UserError, match="part 'scale' is registered already"):
        parts.register("scale", "fractions:Fraction")
    assert parts.make("own", {}) == 1
    parts.register("first", lambda: 1)
    with pytest.raises(UserError, match="registered already"):
        parts.register("first", lambda: 2)  # of one file and without a name


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("scael", {}, r"part 'scael' is unknown: did you mean 'scale'"),
        (3, {}, "part 3 is unknown"),
        ("scale", {"factr": 1}, "part 'scale' has no setting 'factr': did you mean 'factor'"),
        ("scale", {"outside": 1, "factor": 1}, "has no setting 'outside': choose from elsewhere, factor, offset"),
        ("scale", {"offset": 1}, "part 'scale' needs the setting 'factor'; give it"),
        ("shift", {"along": 1}, "part 'shift' needs the settings 'by' and 'of'; give them"),
    ],
)
def test_a_wrong_name_or_setting_is_one_sentence(parts, name, settings, message):
    parts.register("shift", shift)
    with pytest.raises(UserError, match=message):
        parts.make(name, settings, besides=["elsewhere"])


def test_what_takes_anything_is_given_anything(parts):
    parts.register("any", lambda *values, **settings: (values, settings))
    assert parts.make("any", {"x": 1}) == ((), {"x": 1})


def test_a_file_that_was_changed_takes_its_names_over(tmp_path, parts):
    def load(text, file="mine.py"):
        (tmp_path / file).write_text(text)
        spec = importlib.util.spec_from_file_location(f"loaded_{len(text)}", tmp_path / file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.mine

    parts.register("mine", load("def mine():\n    return 1\n"))
    parts.register("mine", load("def mine():\n    return 1 + 1\n"))
    assert parts.make("mine", {}) == 2
    with pytest.raises(UserError, match="registered already"):
        parts.register("mine", load("def mine():\n    return 3\n", "other.py"))


@pytest.mark.parametrize("others_file", [None, __file__])
def test_a_class_of_a_script_is_known_again_by_the_file_of_its_functions(tmp_path, monkeypatch, others_file):
    """As where a script is run, or a notebook's cell, and its file is then named in `modules`."""
    monkeypatch.setitem(sys.modules, "__main__", main := ModuleType("__main__"))
    if others_file is not None:
        main.__file__ = others_file

    def made(path):
        names = {"__name__": "__main__"}
        exec(compile("class Mine:\n    def act(self):\n        return 0\n", str(path), "exec"), names)
        act = names["Mine"].act
        names["Mine"].act = functools.wraps(act)(lambda self: act(self))  # as worlds wrap what they are made by
        return names["Mine"]

    parts, again = Registry("part"), made(tmp_path / "mine.py")
    parts.register("mine", made(tmp_path / "mine.py"))
    parts.register("mine", again)
    assert parts["mine"] is again
    with pytest.raises(UserError, match="registered already"):
        parts.register("mine", made(tmp_path / "other.py"))
