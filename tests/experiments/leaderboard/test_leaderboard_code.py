"""What a digest of code counts: what may change a figure, and nothing that a reader alone sees."""

import ast

import pytest

from duelenv import agents
from duelenv.agents.asking import ASK
from duelenv.agents.base import AGENTS
from duelenv.experiments.leaderboard import code
from duelenv.experiments.leaderboard.code import code_digest, modules_behind


@pytest.fixture
def changed(monkeypatch):
    """Give a module another text."""

    def change(module, rewrite):
        code._needed.cache_clear(), code._digest.cache_clear()
        tree = ast.parse(rewrite(code._file(module).read_text(encoding="utf-8")))
        before = code._tree
        monkeypatch.setattr(code, "_tree", lambda name: tree if name == module else before(name))

    yield change
    code._needed.cache_clear(), code._digest.cache_clear()


RUCB, DTS, COUNTS = (f"duelenv.agents.karmed.{name}" for name in ("rucb", "dts", "counts"))


def test_docstrings_comments_and_layout_do_not_count(changed):
    before = code_digest([RUCB])
    changed(RUCB, lambda text: text.replace('"""', '"""Otherwise. ', 1) + "\n\n# said aside\n")
    assert code_digest([RUCB]) == before


def test_a_number_counts_for_those_who_use_it_and_for_nobody_else(changed):
    digests = {name: code_digest([name]) for name in (RUCB, DTS, COUNTS)}
    changed(RUCB, lambda text: text + "\nLATER = 1\n")
    assert code_digest([RUCB]) != digests[RUCB]
    assert code_digest([DTS]) == digests[DTS]


def test_what_an_agent_imports_counts(changed):
    before = code_digest([RUCB])
    changed(COUNTS, lambda text: text + "\nLATER = 1\n")
    assert code_digest([RUCB]) != before


def test_parts_that_are_found_by_name_count_and_other_agents_do_not():
    behind = modules_behind(["duelenv.agents.thompson"])
    assert {ASK[name].__module__ for name in ASK.names()} <= behind
    assert "duelenv.agents.beliefs.linear_logistic" in behind
    assert "duelenv.agents.learners" in behind
    assert not behind & {RUCB, "duelenv.agents.selm", "duelenv.agents"}
    assert not any(name.startswith("duelenv.experiments") for name in behind)


def test_every_agent_has_code_behind_it():
    for name in agents.names():
        module = AGENTS[name].__module__
        if module.startswith("duelenv."):
            assert module in modules_behind([module])
    assert "duelenv.agents.sb3.self_play" in modules_behind(["duelenv.agents.sb3"])


def test_what_a_type_checker_alone_reads_does_not_count():
    assert "duelenv.policies.causal_lm" not in modules_behind([RUCB])
