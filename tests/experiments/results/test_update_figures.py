"""Figures of agents: means between evaluations, one value per replicate, and never in the place of what is measured."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import duelenv
from duelenv import UserError
from duelenv.experiments.results.update_figures import Figures, agents_columns, arrow_field
from duelenv.experiments.tables.statistics import mean_interval

NAN = float("nan")


def test_a_figure_by_replicate_is_the_mean_over_calls_and_starts_anew():
    figures = Figures(3, "mine")
    figures.add({"loss": np.array([1.0, 2.0, NAN])})
    figures.add({"loss": torch.tensor([4.0, NAN, NAN], requires_grad=True)})
    figures.add({"loss": [7, 4, NAN], "other": [1, 2, 3]})
    figures.add(None)
    means = figures.means()
    assert list(means) == ["loss", "other"]
    assert means["loss"].dtype == np.float64
    np.testing.assert_array_equal(means["loss"], [4.0, 3.0, NAN])
    np.testing.assert_array_equal(means["other"], [1.0, 2.0, 3.0])
    assert figures.means() == {}
    figures.add({"loss": [10.0, 20.0, 30.0]})
    np.testing.assert_array_equal(figures.means()["loss"], [10.0, 20.0, 30.0])
    assert figures.names == ("loss", "other")


def test_a_number_of_the_whole_cell_is_one_measurement_not_many():
    figures = Figures(4, "mine")
    for value in (1, np.float32(2.0), torch.tensor(6.0)):
        figures.add({"loss": value})
    loss = figures.means()["loss"]
    np.testing.assert_array_equal(loss, [3.0, NAN, NAN, NAN])
    interval = mean_interval(loss)
    assert (interval.mean, interval.seeds) == (3.0, 1)
    assert np.isnan(interval.half_width)


@pytest.mark.parametrize("value", [2.5, [2.5], np.array([2.5]), np.array(2.5)])
def test_in_a_cell_of_one_replicate_a_number_is_its_own(value):
    figures = Figures(1, "mine")
    figures.add({"loss": value})
    figures.add({"loss": NAN})
    assert figures.means()["loss"].tolist() == [2.5]


def test_a_figure_keeps_its_form():
    figures = Figures(2, "mine")
    figures.add({"loss": NAN})  # nothing yet, which may be said in any form
    figures.add({"loss": [1.0, 2.0]})
    figures.means()
    figures.add({"loss": NAN})
    with pytest.raises(UserError, match=r"'loss' .* 'mine' .* sometimes one number"):
        figures.add({"loss": 1.0})
    figures.add({"loss": [3.0, 5.0]})
    assert figures.means()["loss"].tolist() == [3.0, 5.0]


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ([1.0, 2.0], r"an array of shape \(2,\)"),
        ([1.0], r"an array of shape \(1,\)"),
        ([[1.0, 2.0, 3.0]], r"an array of shape \(1, 3\)"),
        ([], r"an array of shape \(0,\)"),
        ("high", "'high'"),
        ("1.0", "'1.0'"),
        (None, "None"),
        ({"a": 1}, "dict"),
        (1j, "complex"),
        (10**400, "int"),
        (np.array([1, 2, 3], dtype="datetime64[s]"), "datetime64"),
        (np.ma.masked_array([1.0, 2.0, 3.0], [0, 1, 0]), "masked"),
        ([1.0, "x", 2.0], "x"),
    ],
)
def test_a_value_that_is_no_figure_is_one_sentence(value, named):
    figures = Figures(3, "mine")
    with pytest.raises(UserError, match=named) as caught:
        figures.add({"loss": value})
    message = str(caught.value)
    assert "'mine'" in message and "'loss'" in message and "a number, or 3 numbers, one per replicate" in message
    assert "\n" not in message
    assert figures.means() == {}


@pytest.mark.parametrize("returned", [0.5, [("loss", 1.0)], "loss", ()])
def test_what_is_no_mapping_is_one_sentence(returned):
    with pytest.raises(UserError, match=r"'mine' returned .* expected its figures as a mapping"):
        Figures(1, "mine").add(returned)


@pytest.mark.parametrize(
    "name",
    [
        *("agent", "seed", "step", "queries", "gradient_steps", "seconds", "evaluation_queries", "duel_certainty"),
        *("regret", "regret_", "regret_average", "regret_mine", "win_rate", "win_rate_best_of_n", "simple_regret"),
        *("utility", "kl", "response_tokens", "unanswered", "of_this_world"),
    ],
)
def test_names_of_what_is_measured_are_refused(name):
    with pytest.raises(UserError, match=f"'mine' returned a figure named '{name}'.*choose another name"):
        Figures(2, "mine").add({"loss": 1.0, name: 1.0}, measured={"of_this_world"})


def test_a_name_is_refused_once_the_world_measures_it():
    figures = Figures(1, "mine")
    figures.add({"own": 1.0}, measured=["other"])
    with pytest.raises(UserError, match="choose another name"):
        figures.add({"own": 1.0}, measured=["other", "own"])


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "a b", "a\n", "\x1b[2J", "a\u202e", "a" * 201, 3, None])
def test_names_that_would_not_do_as_files_are_refused(name):
    with pytest.raises(UserError, match="'mine' returned has the name") as caught:
        Figures(1, "mine").add({name: 1.0})
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_names_that_do():
    own = ["loss", "log_loss", "gradient_norm", "accuracy", "bonus", "bonus_gradient_ratio", "model_loss"]
    names = [
        *own,
        "labels",
        "model_labels",
        "value_loss",
        "updates",
        "a" * 200,
        "é",
        "lr+1.5-x",
        ".x",
        "regrets",
        "my_win_rate",
    ]
    figures = Figures(1, "mine")
    figures.add(dict.fromkeys(names, 1.0))
    assert list(figures.names) == names


def test_the_runners_figure_is_the_mean_over_the_known_rows_of_each_replicate():
    figures = Figures(3, "mine")
    figures.add_rows("duel_certainty", [1.0, 0.0, 0.25, NAN, NAN, NAN])
    figures.add_rows("duel_certainty", [0.0, 0.0, 0.75, 0.25, NAN, 0.5])
    figures.add({"loss": [1.0, 2.0, 3.0]})
    means = figures.means()
    assert list(means) == ["loss", "duel_certainty"]
    np.testing.assert_array_equal(means["duel_certainty"], [0.25, 0.375, 0.5])
    assert figures.names == ("loss",)
    assert figures.means() == {}


def test_state_goes_on_where_it_stopped():
    whole, first, second = (Figures(2, "mine") for _ in range(3))

    def play(figures, rounds):
        for number in rounds:
            figures.add({"loss": [number, NAN if number % 2 else 3.0 * number], "whole": 1.0 / (1 + number)})
            figures.add_rows("duel_certainty", [number, 2.0, NAN, 0.5])

    play(whole, range(5))
    play(first, range(3))
    state = first.state_dict()
    play(first, range(9))  # which must not reach the state
    first.add({"late": 1.0})
    second.load_state_dict(state)
    play(second, range(3, 5))
    expected, found = whole.means(), second.means()
    assert second.names == whole.names
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
    with pytest.raises(UserError, match="same form"):
        second.add({"whole": [1.0, 2.0]})


def test_state_passes_through_a_checkpoint(tmp_path):
    from duelenv.experiments.running import checkpoints

    figures, restored = Figures(2, "mine"), Figures(2, "mine")
    figures.add({"loss": [1.0, 2.0], "none_yet": NAN})
    checkpoints.save(tmp_path / "state.npz", {"figures": figures.state_dict()})
    restored.load_state_dict(checkpoints.load(tmp_path / "state.npz")["figures"])
    np.testing.assert_array_equal(restored.means()["loss"], [1.0, 2.0])
    assert restored.names == ("loss", "none_yet")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_mark_of_an_agents_column_survives_concatenation_and_a_file(tmp_path, order):
    number = pa.float64()
    plain = pa.schema([arrow_field("seed", pa.int64()), arrow_field("utility", number)])
    further = pa.schema([*plain, arrow_field("own", number, from_agent=True)])
    tables = [
        pa.table({"seed": [0], "utility": [1.0]}, schema=plain),
        pa.table({"seed": [1], "utility": [2.0], "own": [3.0]}, schema=further),
    ]
    joined = pa.concat_tables([tables[place] for place in order], promote_options="default")
    pq.write_table(joined, tmp_path / "results.parquet")
    assert agents_columns(pq.read_table(tmp_path / "results.parquet").schema) == {"own"}
    assert agents_columns(pq.read_schema(tmp_path / "results.parquet")) == {"own"}


@pytest.mark.parametrize("agent", sorted(duelenv.agents.names()))
def test_no_agent_of_the_project_is_refused(agent):
    """Each in the first world that it fits, several replicates at once."""
    matrix = {"matrix": [[0.5, 0.7, 0.8], [0.3, 0.5, 0.7], [0.2, 0.3, 0.5]]}
    worlds = [("duelenv/FeatureDuel-v0", {"num_candidates": 4, "dim": 3}), ("duelenv/MatrixDuel-v0", matrix)]
    for world, settings in worlds:
        for rows in (3, 1):
            env = duelenv_world(world, rows, settings)
            try:
                made = duelenv.agents.make(agent, env, seed=0)
            except UserError:
                continue
            figures = Figures(rows, agent)
            observation, _ = env.reset(seed=0)
            for _ in range(12):
                actions = made.act(observation)
                following, labels, _, _, info = env.step(actions)
                figures.add(made.update(observation, actions, labels, info["late"]), measured=("simple_regret",))
                observation = following
            assert all(values.shape == (rows,) for values in figures.means().values())
            return
    pytest.skip("plays with a policy only")


def duelenv_world(world, rows, settings):
    import gymnasium

    return gymnasium.make_vec(world, num_envs=rows, horizon=12, **settings)
