"""`duelenv leaderboard`: one agent against the stored ones, the whole table, going on, and mistakes in one sentence."""

import re

import pytest
from leaderboard_parts import small

from duelenv.agents.base import AGENTS
from duelenv.experiments.commands.cli import main
from duelenv.experiments.leaderboard import filling, playing, worlds
from duelenv.experiments.leaderboard.playing import Entry, now_of, plays_of, refusal_of
from duelenv.experiments.leaderboard.stored import read_table

MINE = """
from duelenv.agents.base import AGENTS, register

@register("mine")
def mine(view, seed, settings):
    return AGENTS["rucb"](view, seed, settings)
"""


@pytest.fixture
def board(own_registries, monkeypatch, tmp_path, capfd):
    """Call the command on small worlds with two agents entered; what it said, its code in front."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(worlds, "current", small)
    monkeypatch.setattr(filling, "entrants", lambda worlds: [Entry("passive", "passive"), Entry("rucb", "rucb")])

    def call(*words):
        code = main(["leaderboard", "--table", "t.json", "--jobs", "1", *words])
        said = capfd.readouterr()
        return f"{code}\n{said.out}\n{said.err}"

    return call


def test_the_table_is_made_goes_on_where_it_was_and_compares_an_agent_of_a_file(board, tmp_path, monkeypatch):
    assert "no agent was played yet" in board()
    plays, real = [], playing.play

    def counted(one, root, **settings):
        if len(plays) == 2:
            raise KeyboardInterrupt("enough")
        plays.append((one.entry.name, [world.name for world in one.worlds]))
        return real(one, root, **settings)

    monkeypatch.setattr(filling, "play", counted)
    assert board("--all").startswith("130")
    stopped = read_table(tmp_path / "t.json", "small-1")
    assert plays[0] == ("random", ["easy", "hard"])
    plays.append("the limit is passed")
    board("--all")
    done = read_table(tmp_path / "t.json", "small-1")
    assert set(stopped.rows) < set(done.rows)
    # Nobody is played twice, and nobody that does not fit.
    assert len(plays) == 3 + 2
    assert done.of("rucb", "fresh").refused.startswith("agent 'rucb' needs K arms that stay the same")
    assert len(done.of("rucb", "easy").values) == 4
    board("--all")
    assert len(plays) == 5

    (tmp_path / "mine.py").write_text(MINE, encoding="utf-8")
    registered = [Entry(name, name) for name in ("passive", "rucb", "mine")]  # as its file registers it when it is read
    monkeypatch.setattr(filling, "entrants", lambda worlds: [one for one in registered if one.agent in AGENTS])
    said = board("--agent", "mine.py:mine")
    assert "stale" not in said  # it was played a moment ago, with the file that it stands in
    # The same rule with the same seeds has the same figures as the stored one.
    assert re.search(r"arms +rucb +0.000 \[0.000, 0.000\] +no difference shown", said)
    assert "fresh: agent 'mine'" in said or "fresh: agent 'rucb'" in said
    assert "corrected for 3 comparisons (Holm)" in said
    assert read_table(tmp_path / "t.json", "small-1") == done
    page = board("--page", "page.md")
    assert page.startswith("0")
    assert "| **rucb** |" in (tmp_path / "page.md").read_text(encoding="utf-8")


def test_an_agent_on_development_brings_the_floor_that_is_missing(board):
    said = board("--agent", "rucb", "--set", "development", "alpha=0.6")
    assert "random: tried" in said
    assert "rucb-alpha0.6: tried" in said
    # The mean of the floor scores 0, whatever its middle half does.
    assert re.search(r"random .+ 0\.000  \d", said)


def test_a_folder_goes_by_the_settings_the_worlds_and_the_code():
    set_of = small()
    easy, hard = set_of.worlds[:2]
    (one,) = plays_of(Entry("rucb", "rucb"), [easy, hard])
    assert [agent.label for agent in one.config.agents] == ["easy", "hard"]
    assert one.config.seeds == (70, 71, 72, 73)
    (other,) = plays_of(Entry("rucb", "rucb", {"alpha": 0.7}), [easy, hard])
    assert one.folder != other.folder
    assert one.folder == next(plays_of(Entry("rucb", "rucb"), small().worlds[:2])).folder
    assert now_of(Entry("rucb", "rucb"), easy) == now_of(Entry("rucb", "rucb"), small().worlds[0])


def test_refusals_are_the_agents_own_sentences():
    fresh = small().worlds[-1]
    assert refusal_of(Entry("passive", "passive"), fresh) is None
    assert "needs K arms that stay the same" in refusal_of(Entry("dts", "dts"), fresh)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--agent", "rucd"], "agent 'rucd' is unknown: did you mean"),
        (["--agent", "nowhere.py:mine"], "No Python file 'nowhere.py'"),
        (["--agent", "rucb", "alhpa=1"], "fits none of the worlds: agent 'rucb' reads no setting 'alhpa'"),
        (["--agent", "dts", "--only", "features"], "'dts' fits none of the worlds: agent 'dts' needs K arms"),
        (["--only", "esay"], "'esay' is unknown: did you mean 'easy'"),
        (["--set", "reportin"], "reporting"),
        (["alpha=1"], "belongs to an agent that is played: add --agent NAME"),
        (["--dry"], "add --agent NAME or --all"),
        (["--all", "--jobs", "0"], "--jobs"),
    ],
)
def test_mistakes_are_one_sentence(board, words, sentence):
    said = board(*words)
    assert said.startswith("2\n")
    assert sentence in said
    assert said.count("duelenv: ") == 1
