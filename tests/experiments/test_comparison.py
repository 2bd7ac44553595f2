"""Comparisons stay equal: the same steps beside the same steps, the same world but for what an agent needs."""

import pytest

import duelenv
from duelenv.experiments import config as configs
from duelenv.experiments.results import Results, make_table
from duelenv.experiments.runner import run


def plain(**agents):
    return {
        "name": "equal",
        "env": {"id": "AlignmentDuel", "num_envs": 2, "num_candidates": 4, "horizon": 2},
        "policy": {"toy": {"seed": 0}},
        "prompts": {"list": {"train": ["tell me about the garden"], "test": ["tell me about the river"]}},
        "oracle": {"name": "length"},
        "agents": agents,
        "seeds": 2,
        "evaluate_every": 1,
        "jobs": 1,
    }


@pytest.mark.slow
def test_an_agent_with_more_steps_is_also_compared_at_equal_steps(tmp_path):
    config = configs.RunConfig.from_dict(
        plain(
            passive={},
            passive_2x={"name": "passive", "gradient_steps": 2},
            real={},
            thompson={},
            selm={"env": {"sources": {"policy": 2, "reference": 2}}},
        )
    )
    run(config, tmp_path / "run")
    table = make_table(Results(tmp_path / "run"))
    lines = {line.agent: line for line in table.lines}
    assert {name: line.peer for name, line in lines.items()} == {
        "passive": None,
        "passive_2x": None,  # it is the baseline's variant itself
        "real": None,  # as many steps as the baseline
        "selm": None,
        "thompson": "passive_2x",
    }
    difference = lines["thompson"].primary.mean - lines["passive_2x"].primary.mean
    assert lines["thompson"].peer_difference.mean == pytest.approx(difference)
    assert "(to passive_2x)" in table.text()


def test_an_agent_may_change_its_candidates_but_not_its_budget():
    config = configs.RunConfig.from_dict(plain(passive={}, selm={"env": {"sources": {"policy": 2, "reference": 2}}}))
    assert config.for_agent("selm").env.settings["sources"] == {"policy": 2, "reference": 2}
    assert "sources" not in config.for_agent("passive").env.settings
    assert configs.RunConfig.from_dict(config.to_dict()).identity() == config.identity()
    for key in ("horizon", "num_envs"):
        with pytest.raises(duelenv.UserError, match="unequal"):
            configs.RunConfig.from_dict(plain(passive={"env": {key: 5}}))
