"""Which duels the page shows, and what of them its filters go by."""

import pyarrow as pa
import pyarrow.parquet as pq
from made_up_runs import numeric_run, policy_run

from duelenv.experiments.report import duels
from duelenv.experiments.report.duels import duel_view
from duelenv.experiments.results.measurements import Results


def shown(directory, rows):
    pq.write_table(pa.Table.from_pylist(rows), directory / "labels.parquet")
    return duel_view(Results(directory))


def row(step, **changes):
    texts = {"prompt": "p", "first": "a", "second": "b"}
    return {"agent": "passive", "seed": 0, "step": step, **texts, "label": 1.0, "win": 0.9, "tie": 0.0, **changes}


def test_a_label_says_who_won_and_the_odds_what_was_to_be_expected(tmp_path):
    rows = [
        row(1),
        row(2, label=0.0),
        row(3, label=0.5, win=0.2, tie=0.6),
        row(4, win=None, tie=None),
        row(5, label=None),
        row(6, prompt=None),
    ]
    view = shown(policy_run(tmp_path), rows)
    assert view.total == 4  # without a label or a text there is nothing to show
    assert [duel.won for duel in view.duels] == ["first", "second", "tie", "first"]
    assert [duel.probability for duel in view.duels] == [0.9, 0.9, 0.5, None]
    assert [duel.surprising for duel in view.duels] == [False, True, False, False]
    assert view.judged


def test_of_many_duels_each_agent_has_as_many_at_even_distances(tmp_path, monkeypatch):
    monkeypatch.setattr(duels, "_MOST", 12)
    rows = [row(step) for step in range(1, 1002)] + [row(step, agent="better") for step in range(1, 4)]
    view = shown(policy_run(tmp_path), rows)
    steps = [duel.step for duel in view.duels if duel.agent == "passive"]
    assert steps == [1, 201, 401, 601, 801, 1001]
    assert [duel.step for duel in view.duels if duel.agent == "better"] == [1, 2, 3]
    assert view.total == 1004


def test_long_texts_leave_room_for_fewer(tmp_path, monkeypatch):
    monkeypatch.setattr(duels, "_LETTERS", 1_000)
    view = shown(policy_run(tmp_path), [row(step, prompt="x" * 98) for step in range(50)])
    assert sum(len(duel.prompt) for duel in view.duels) <= 1_000
    assert len(view.duels) >= 8


def test_a_world_without_texts_has_no_browser(tmp_path):
    assert duel_view(Results(numeric_run(tmp_path))) is None
