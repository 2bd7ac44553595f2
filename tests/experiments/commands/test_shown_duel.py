"""Duels printed as text: what a prompt or a response holds is seen, and never obeyed."""

import json

import pytest

from duelenv import UserError
from duelenv.experiments.commands.shown_duel import show_config, show_duel
from duelenv.experiments.running import assembly

#: Each kind of character that a terminal obeys, and how it is shown.
KINDS = {
    "\x1b[2J": r"\x1b[2J",
    "\x9b31m": r"\x9b31m",
    "\x07": r"\x07",
    "\x08\x08": r"\x08\x08",
    "\x7f": r"\x7f",
    "\x0b\x0c\x1c\x85": r"\x0b\x0c\x1c\x85",
    "\u202e": r"\u202e",
    "\u2066": r"\u2066",
}


def shown(tmp_path, prompt, responses):
    rows = [
        {"prompt": text, "response": response, "score": number}
        for text in (prompt, prompt + " again")
        for number, response in enumerate(responses)
    ]
    path = tmp_path / "pool.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return show_duel(show_config("PoolDuel", [f"data={path}", f"num_candidates={len(responses)}"]))


@pytest.mark.parametrize("kind", KINDS, ids=ascii)
def test_what_a_terminal_obeys_is_made_visible(tmp_path, kind):
    text = shown(tmp_path, f"ask{kind}this", [f"an{kind}answer", "other", "third"])
    assert all(line.isprintable() for line in text.split("\n"))
    assert f"ask{KINDS[kind]}this" in text
    assert f"an{KINDS[kind]}answer" in text


def test_lines_and_tabs_of_a_text_are_kept(tmp_path):
    text = shown(tmp_path, "ask", ["first line\r\nsecond\tline\rmore", "other", "third"])
    assert "first line\n     second line" in text.replace("  line", " line")
    assert r"line\x0dmore" in text


class Renamed:
    """A world whose regret has a name that a terminal would obey."""

    def __init__(self, env):
        self._env = env

    def __getattr__(self, name):
        return getattr(self._env, name)

    def step(self, actions):
        *others, info = self._env.step(actions)
        regret = {f"{name}\x1b[2J\n": values for name, values in info["regret"].items()}
        return (*others, {**info, "regret": regret})


def test_names_that_a_world_gave_are_made_visible_too(monkeypatch):
    made = assembly.make_environment
    monkeypatch.setattr(assembly, "make_environment", lambda *given, **named: Renamed(made(*given, **named)))
    text = show_duel(show_config("FeatureDuel", []))
    assert all(line.isprintable() for line in text.split("\n"))
    assert r"average\x1b[2J\x0a " in text


@pytest.mark.parametrize("target", ["FeatureDuel", "features", "demo"])
def test_what_the_help_advertises_is_taken_for_worlds_and_configs(target):
    config = show_config(target, ["seeds=4", "num_candidates=5"])
    assert (len(config.seeds), config.env.settings["num_candidates"]) == (4, 5)


def test_a_user_s_world_is_shown(tmp_path):
    module = tmp_path / "shown_world.py"
    module.write_text(
        "import gymnasium\n"
        "from duelenv.worlds.feature_duel import FeatureDuelVectorEnv\n"
        "gymnasium.register('mine/Shown-v0', vector_entry_point=FeatureDuelVectorEnv)\n"
    )
    with pytest.raises(UserError, match="known once modules=FILE"):
        show_config("mine/Shown-v0", [])
    text = show_duel(show_config("mine/Shown-v0", [f"modules={module}", "num_candidates=3"]))
    assert text.startswith("mine/Shown-v0, 3 candidates")
