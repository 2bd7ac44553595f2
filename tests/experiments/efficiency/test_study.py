"""Studies as they are read: what a cell becomes, equal trials, and one sentence for what does not go together."""

import copy

import pytest

from duelenv import UserError
from duelenv.experiments.config.loading import load, override_mapping, read_study_file
from duelenv.experiments.efficiency.reading import read_study
from duelenv.experiments.efficiency.runs import Entry, Setup, run_configs

RAW = {
    "study": "small",
    "base": {
        "env": {"id": "AlignmentDuel", "num_candidates": 4},
        "policy": "toy",
        "prompts": {"toy": {"train": 8, "test": 4}},
    },
    "development": {"again": {"oracle": {"name": "rare_word", "word": "again"}}},
    "held_out": {"was": {"oracle": {"name": "rare_word", "word": "was"}}},
    "regimes": {"few": {"per_round": 2, "labels": 12, "every": 4}, "many": {"per_round": 4, "labels": 16, "every": 8}},
    "tuning": {"learning_rate": [1e-3, 2e-3], "replay": [0, 3]},
    "seeds": {
        "tune": {"count": 1, "first": 10},
        "screen": {"count": 2, "first": 20},
        "confirm": {"count": 2, "first": 30},
    },
    "cells": {
        "pairs": {"ask": ["extreme", {"name": "thompson", "num_samples": 5}], "teach": ["duel", "best_worst"]},
        "chosen": {"ask": "extreme", "env": {"num_envs": 6, "selective": True}, "regimes": ["few"]},
    },
    "controls": {"perfect": {"name": "perfect_belief", "ask": "extreme"}},
}


def changed(*overrides):
    return override_mapping(copy.deepcopy(RAW), overrides)


def test_lists_of_rules_are_cells_for_each_pair():
    study = read_study(RAW)
    assert {cell.name: cell.settings for cell in study.cells} == {
        "pairs-extreme-duel": {"ask": "extreme"},
        "pairs-extreme-best_worst": {"ask": "extreme", "teach": "best_worst"},
        "pairs-thompson-duel": {"ask": "thompson", "num_samples": 5},
        "pairs-thompson-best_worst": {"ask": "thompson", "num_samples": 5, "teach": "best_worst"},
        "chosen": {"ask": "extreme"},
    }
    assert [cell.name for cell in study.in_regime(study.regimes[1])] == [cell.name for cell in study.cells[:4]]


def test_trials_are_all_products_of_what_is_tuned():
    assert read_study(RAW).trials == (
        {"learning_rate": 1e-3, "replay": 0},
        {"learning_rate": 1e-3, "replay": 3},
        {"learning_rate": 2e-3, "replay": 0},
        {"learning_rate": 2e-3, "replay": 3},
    )


def test_the_control_with_random_pairs_keeps_the_teaching_and_drops_what_only_asks():
    cells = {cell.name: cell for cell in read_study(changed("cells.pairs.belief=linear_logistic")).cells}
    taught = cells["pairs-thompson-best_worst"].with_random_pairs
    assert taught is not None
    assert taught.settings == {"ask": "random", "teach": "best_worst", "belief": "linear_logistic"}
    untaught = cells["pairs-thompson-duel"].with_random_pairs
    assert untaught is not None
    assert untaught.settings == {"ask": "random"}  # a belief that nobody reads is refused
    assert read_study(RAW).controls[0].with_random_pairs is None
    asks = "cells.chosen.ask={name: deviation, num_samples: 9, prompts: own, asked: 2}"
    (*_, chosen) = read_study(changed(asks, "cells.chosen.belief=linear_logistic")).cells
    shown = chosen.with_random_pairs
    assert shown is not None
    assert shown.settings == {"ask": "random", "prompts": "random", "asked": 2}  # of the prompts that it is shown
    assert shown.env == chosen.env


def test_agents_that_need_another_world_play_in_a_run_of_their_own():
    study = read_study(RAW)
    regime = study.regimes[0]
    entries = [Entry.of(cell, study.trials[-1]) for cell in (*study.cells, *study.controls)]
    runs = run_configs(study, Setup(study.worlds[0], regime, 24, (7, 8)), entries, "x")
    first, second = runs.values()
    alone = run_configs(study, Setup(study.worlds[0], regime, 24, (7,)), entries[4:5], "x")
    assert list(runs) == ["x", *alone]  # whoever else plays, the folder is the same
    assert (first.env.num_envs, second.env.num_envs) == (2, 6)
    assert second.env.settings["selective"] is True
    for config in (first, second):
        assert config.env.settings["horizon"] == 12  # rounds: the labels are the same for both
        assert config.evaluate_every == 2
        assert config.seeds == (7, 8)
    # The oracle is given to the agent that is told the utility, and to no other; only its run can make it.
    assert first.agent("perfect").settings["oracle"] == {"name": "rare_word", "word": "again"}
    assert all("oracle" not in agent.settings for agent in first.agents if agent.label != "perfect")
    assert first.modules
    assert second.modules == ()


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("carry=2", "did you mean 'carried'"),
        ("seeds=[5]", r"'seeds' is \[5\], expected a mapping of tune, screen, confirm, race, baseline"),
        ("horizon=3", "'horizon': a study has 'regimes.NAME.labels' in its place"),
        ("agents=[passive]", "'agents': a study has 'cells' in its place"),
        ("oracle=length", "'oracle': it stands a level lower; write 'base.oracle'$"),
        ("num_candidates=3", "'num_candidates': it stands a level lower; write 'base.env.num_candidates'$"),
        # What the study decides, and would be passed over or break it.
        ("base.variants={a: {}}", "'base.variants' is not a setting of a study, which has 'cells'"),
        ("base.seeds=3", "'base.seeds' is not a setting of a study, which has 'seeds'"),
        ("base.metric=length", "'base.metric' is not a setting of a study, which has 'metric'"),
        ("base.env.horizon=3", "'base.env.horizon' is not a setting of a study, which has 'regimes.NAME.labels'"),
        ("held_out.was.evaluate_every=3", "'held_out.was.evaluate_every' is not a setting of a study"),
        ("held_out.was.env.num_envs=3", "'held_out.was.env.num_envs' is not a setting of a study, which has .*round'"),
        ("cells.chosen.env.horizon=3", "'cells.chosen.env.horizon' is not a setting of a study"),
        ("regimes.few.every=5", "'regimes.few.labels' is 12, expected a multiple of 5"),
        ("regimes.few.every=3", "'regimes.few.every' is 3, expected a multiple of 2"),
        ("regimes.few.most=8", "'regimes.few.most' is 8, expected an integer of at least 12"),
        ("regimes.few.most=14", "'regimes.few.most' is 14, expected a multiple of 4"),
        ("seeds.race={count: 2, first: 20}", "share the seed"),
        ("seeds.screen.first=9", "share the seed 10"),
        ("seeds.confirm.count=1", "'seeds.confirm.count' is 1"),
        ("cells.chosen.replay=2", "'cells.chosen.replay' is tuned"),
        ("cells.chosen.regimes=[fwe]", "few"),
        ("cells.passive={}", "which every study has already"),
        ("cells.pairs-extreme-duel={}", "two cells named"),
        ("tuning.replay=3", "'tuning.replay' is 3, expected a list"),
        ("held_out={}", "no 'held_out'"),
    ],
)
def test_a_study_that_does_not_hold_together_is_one_sentence(override, named):
    with pytest.raises(UserError, match=named):
        read_study(changed(override))


def test_a_study_may_limit_what_its_runs_cost():
    study = read_study(changed("base.budget={run: 900, money: 2.5}"))
    entry = Entry.of(study.cells[0], study.trials[0])
    (config,) = run_configs(study, Setup(study.worlds[0], study.regimes[0], 24, (7,)), [entry], "x").values()
    assert (config.budget.run, config.budget.money, config.budget.labels) == (900, 2.5, None)


def test_the_wide_study_tunes_what_it_says_and_shares_no_seed_with_the_other():
    wide, other = (read_study(read_study_file(name)) for name in ("efficiency_wide", "efficiency"))
    assert (len(wide.cells), len(wide.trials)) == (115, 3)
    seeds = [seed for study in (wide, other) for stage in study.seeds.values() for seed in stage.values]
    assert len(seeds) == len({*seeds})
    assert wide.of_kind("development") == other.of_kind("development")[:1]


def test_a_regime_that_is_not_played_takes_its_own_cells_along():
    study = read_study(changed("regimes.few=null"))
    (regime,) = study.regimes
    assert regime.name == "many"
    assert "chosen" not in [cell.name for cell in study.in_regime(regime)]


def test_null_drops_a_regime_or_a_cell():
    study = read_study(changed("regimes.many=null", "cells.pairs=null"))
    assert [regime.name for regime in study.regimes] == ["few"]
    assert [cell.name for cell in study.cells] == ["chosen"]


def test_the_shipped_study_is_one_and_is_no_run():
    raw = read_study_file("efficiency")
    assert raw is not None
    study = read_study(raw)
    assert len(study.of_kind("development")) == len(study.of_kind("held_out")) == 2
    assert study.seeds["screen"].count == 12
    assert study.seeds["confirm"].count == 40
    with pytest.raises(UserError, match="study of many runs"):
        load("efficiency")
    assert read_study_file("demo") is None


@pytest.mark.parametrize("section", ["development", "held_out", "regimes", "cells", "controls"])
def test_names_that_would_lead_out_of_the_folder_are_refused(section):
    raw = copy.deepcopy(RAW)
    raw[section]["../../up"] = next(iter(raw[section].values()))
    with pytest.raises(UserError, match=rf"What stands in '{section}' has the name '../../up'"):
        read_study(raw)
    for name in ("..", "a/b"):
        with pytest.raises(UserError, match="'study' is "):
            read_study({**RAW, "study": name})


def test_a_secret_in_a_study_is_refused_and_not_repeated():
    with pytest.raises(UserError, match=r"'held_out\.was\.oracle\.token' holds a secret itself") as caught:
        read_study(changed("held_out.was.oracle.token=sk-very-secret"))
    assert "sk-very-secret" not in str(caught.value)
