"""Who is played to learn what a run measures: nobody whose results tell already."""

import pytest

from duelenv import UserError
from duelenv.experiments.config.cell import cells
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.running.runner import run
from duelenv.experiments.running.scouting import check_metric

WORLD = {"id": "FeatureDuel", "num_candidates": 3, "dim": 2, "horizon": 4}


def config(*agents, **changes):
    return RunConfig.from_dict({"name": "two", "env": WORLD, "agents": list(agents), "jobs": 1, "seeds": 2, **changes})


def test_a_world_is_known_by_the_agent_that_finished_in_it(tmp_path):
    run(config("passive"), tmp_path)
    both = config("thompson", "passive", metric="regret_of_nobody")
    todo = [cell for cell in cells(both) if cell.label == "thompson"]
    asked = []

    def scouts(tried):
        asked.append([cell.label for cell in tried])
        return set(), True

    with pytest.raises(UserError, match="'metric' is 'regret_of_nobody', which this world does not know"):
        check_metric(both, RunFolder(tmp_path), todo, scouts)
    assert asked == []
    # A figure of an agent's own is another matter: the finished one does not speak for the other.
    check_metric(config("thompson", "passive", metric="regret"), RunFolder(tmp_path), todo, scouts)
    with pytest.raises(UserError, match="'metric' is 'own'"):
        check_metric(config("thompson", "passive", metric="own"), RunFolder(tmp_path), todo, scouts)
    assert asked == [["thompson"]]
