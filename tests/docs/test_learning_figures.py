"""The table of what agents say of their learning: every figure that an update returns stands in it, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from worlds import make_vector, tiny_policy

import duelenv.agents

PAGE = Path(__file__).parents[2] / "docs" / "runs.md"
FEATURE, ALIGNMENT = "duelenv/FeatureDuel-v0", "duelenv/AlignmentDuel-v0"
SOURCES = {"policy": 3, "reference": 3}


def named() -> set[str]:
    section = PAGE.read_text(encoding="utf-8").split("### What agents say of their learning")[1].split("\n\nOn a ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`(\w+)(?:\.\.\.)?`", row.split("|")[1])}


def said(world: str, name: str, rounds: int = 2, **settings) -> set[str]:
    own = {"policy": tiny_policy(), "sources": SOURCES, "num_candidates": None} if world == ALIGNMENT else {}
    env = make_vector(world, 4, batch=4, horizon=64, **own) if world == FEATURE else make_vector(world, 4, **own)
    agent = duelenv.agents.make(name, env, seed=0, **settings)
    observation, _ = env.reset(seed=0)
    found: set[str] = set()
    for _ in range(rounds):
        actions = agent.act(observation)
        following, labels, *_, info = env.step(actions)
        found |= agent.update(observation, actions, labels, info["late"]).keys()
        observation = following
    return found


def test_every_figure_of_an_update_is_in_the_table_and_no_other() -> None:
    found = said(FEATURE, "thompson") | said(FEATURE, "vacdb") | said(FEATURE, "neural_ucb")
    found |= said(FEATURE, "thompson", belief="laplace")
    found |= said(FEATURE, "sb3_self_play", rounds=40)
    for name, settings in {
        "selm": {},
        "thompson": {},
        "efficient_exploration": {},
        "passive": {"loss": "kto"},
    }.items():
        found |= said(ALIGNMENT, name, **settings)
    imagined = {name.removeprefix("model_") for name in found if name.startswith("model_")}
    told = {name for name in found if not name.startswith("model_")}
    assert imagined
    assert told | imagined | {"model_", "skipped"} == named()
