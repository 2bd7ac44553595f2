"""Parts of the session: refused where the processes that play would not know them, before anything is written."""

import pytest

import duelenv.experiments
from duelenv import UserError
from duelenv.agents.asking import ASK
from duelenv.agents.base import AGENTS
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.interactive.session import check_known_to_workers
from duelenv.oracles.base import ORACLES

WORLD = {"id": "AlignmentDuel", "num_envs": 2, "num_candidates": 4, "horizon": 2}


@pytest.fixture
def session(monkeypatch):
    """Parts that somebody registered in a notebook: what is written there belongs to `__main__`."""

    def added(registry, name, original):
        def mine(*arguments, **settings):
            return original(*arguments, **settings)

        mine.__module__ = "__main__"
        monkeypatch.setitem(registry._parts, name, mine)

    added(AGENTS, "my_agent", AGENTS["passive"])
    added(ASK, "my_rule", ASK["random"])
    added(ORACLES, "my_oracle", ORACLES["length"])


def config(agents=("passive",), oracle="length", **settings):
    agents = agents if isinstance(agents, dict) else list(agents)
    raw = {"name": "x", "env": WORLD, "policy": "toy", "prompts": {"toy": {"train": 4, "test": 2}}}
    return RunConfig.from_dict({**raw, "agents": agents, "oracle": oracle, "baseline": next(iter(agents)), **settings})


MINE = [
    ({"agents": ["my_agent"]}, "agent 'my_agent'"),
    ({"agents": {"a": {"name": "composed", "ask": "my_rule"}}}, "ask rule 'my_rule'"),
    ({"oracle": "my_oracle"}, "oracle 'my_oracle'"),
    ({"evaluation_oracle": "my_oracle"}, "oracle 'my_oracle'"),
]


@pytest.mark.parametrize(("settings", "named"), MINE)
@pytest.mark.parametrize("backend", ["loky", "dask"])
def test_what_the_session_alone_knows_is_refused_where_workers_begin_empty(session, settings, named, backend):
    with pytest.raises(UserError, match=rf"^{named} is registered in this session alone, .*backend '{backend}'"):
        check_known_to_workers(config(**settings, backend=backend))


@pytest.mark.parametrize(("settings", "named"), MINE)
def test_it_plays_in_threads_and_where_a_module_may_register_it(session, settings, named):
    check_known_to_workers(config(**settings, backend="threading"))
    check_known_to_workers(config(**settings, backend="loky", modules="mine.py"))
    check_known_to_workers(config(backend="loky"))


def test_it_is_refused_before_anything_is_written(session, tmp_path):
    with pytest.raises(UserError, match="my_agent"):
        duelenv.experiments.run(config(agents=["my_agent"]), output=tmp_path / "run")
    assert not list(tmp_path.iterdir())
