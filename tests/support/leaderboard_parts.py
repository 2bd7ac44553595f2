"""A small set of worlds that is played in no time, and rows that were made up."""

from duelenv.experiments.leaderboard.stored import Now, Row, Table
from duelenv.experiments.leaderboard.worlds import read_worlds

BASE = {"env": {"id": "MatrixDuel", "horizon": 12}, "evaluate_every": 12, "backend": "sequential"}
GROUP = {
    "title": "Arms",
    "figure": "regret",
    "seeds": 4,
    "floor": "random",
    "ceiling": {"value": 0.0, "about": "no regret"},
    "base": BASE,
    "worlds": {
        "easy": {"about": "one", "metric": "regret_average", "env": {"matrix": {"name": "arithmetic", "num_arms": 3}}},
        "hard": {"about": "two", "metric": "regret_average", "env": {"matrix": {"name": "savage_hard", "num_arms": 4}}},
        "tried": {
            "about": "three",
            "set": "development",
            "metric": "regret_average",
            "env": {"matrix": {"name": "arithmetic", "num_arms": 4}},
        },
    },
}
FEATURES = {
    **GROUP,
    "title": "Features",
    "floor": "passive",
    "base": {**BASE, "env": {"id": "FeatureDuel", "horizon": 12, "num_candidates": 3, "dim": 2}},
    "worlds": {"fresh": {"about": "four", "metric": "regret_utility"}},
}


def small(**changes):
    groups = {"arms": {**GROUP, **changes}, "features": FEATURES}
    return read_worlds({"version": "small-1", "groups": groups, "seeds": {"reporting": 70, "development": 60}})


MADE = Now("w", "1.0", "c")


def row(agent, world, values=(), refused=None, made=MADE, first_seed=70):
    if refused is not None:
        return Row(agent, world, (), refused, 0, made, "2026-01-02", "", 0.0)
    return Row(agent, world, tuple(values), None, first_seed, made, "2026-01-02", "slow", 1.0)


def table(*rows):
    return Table("small-1", {}).with_rows(rows)
