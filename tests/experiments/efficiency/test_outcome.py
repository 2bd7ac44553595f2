"""What tables of a study claim, and what a label of an arm costs beside one of `passive`."""

import dataclasses
import math

import numpy as np
import pytest

from duelenv.experiments.efficiency.outcome import claims, cost_shifts, table_text, tuning_text
from duelenv.experiments.efficiency.pictures import heat_map, labels_to_target
from duelenv.experiments.efficiency.resampling import Arm, compare
from duelenv.experiments.efficiency.runs import Entry, Measured
from duelenv.experiments.efficiency.stages import Baseline, Table, Tuned
from duelenv.experiments.efficiency.study import Cell, Regime, Study, World
from duelenv.experiments.tables.crossing import plateau_of

LABELS = np.arange(0, 201, 10.0)
REGIME = Regime("few", 2, 100, 10)


def measured(label, speed, seeds=12, *, steps=100, imagined=0.0, rows=2, **settings):
    """Curves that are half-way after 40 labels / `speed`."""
    generator = np.random.default_rng(len(label))
    middle = generator.normal(40, 12, size=(seeds, 1))
    height = 0.5 + 0.45 / (1 + np.exp(-(speed * LABELS - middle) / 5))
    height[:, 0] = 0.5
    figures = dict.fromkeys(("informative_duels", "first_informative_label", "third_informative_label"), 7.0)
    figures |= {"gradient_steps": float(steps), "model_labels": imagined}
    arm = Arm(LABELS, height, height, height)
    return Measured(Entry(label, "composed", settings), arm, figures, rows)


def table(arms, roles, *, kind="held_out", stage="confirm", name="w"):
    baseline = measured("passive", 1.0)
    of = Baseline(baseline, 100, plateau_of(LABELS, baseline.arm.height), 1.0)
    found = {label: compare(arm.arm, baseline.arm, 100, draws=500) for label, arm in arms.items()}
    return Table(stage, World(name, kind, {}), REGIME, of, arms, found, roles)


def test_only_carried_cells_in_held_out_worlds_claim_something():
    arms = {"fast": measured("fast", 2.5), "same": measured("same", 1.0)}
    roles = {"fast": "cell", "same": "control"}
    said = claims([table(arms, roles)])
    assert said == {("w", "few", "fast"): "fewer labels", ("w", "few", "same"): "(not shown)"}
    for stage, kind in (("screen", "development"), ("confirm", "negative")):
        assert claims([table(arms, roles, stage=stage, kind=kind)])["w", "few", "fast"] == "(fewer labels)"
    further = table(arms, roles, stage="further", kind="further", name="v")
    assert claims([table(arms, roles), further])["v", "few", "fast"] == "fewer labels"


def test_the_family_is_all_held_out_worlds_of_a_regime():
    one = table({"some": measured("some", 1.35)}, {"some": "cell"})
    assert 0.01 < one.comparisons["some"].log_ratio.p_value < 0.05
    assert claims([one])["w", "few", "some"] == "fewer labels"
    worlds = [table({"some": measured("some", 1.35)}, {"some": "cell"}, name=f"w{number}") for number in range(5)]
    assert set(claims(worlds).values()) == {"not shown"}


def test_a_label_costs_pairs_for_replay_and_teaching_and_prompts_that_were_shown():
    # 200 labels, 2 a round: 100 steps on 2 + 14 pairs, and 100 on the 4 that a belief labels.
    arm = measured("dear", 1.0, steps=200, imagined=4.0, rows=16, replay=14, teach="best_worst")
    gradients, prompts = cost_shifts(table({"dear": arm}, {"dear": "cell"}), "dear")
    assert math.exp(gradients) == pytest.approx((100 * 16 + 100 * 4) / (100 * 2))
    assert math.exp(prompts) == pytest.approx(8.0)
    untaught = measured("untaught", 1.0, steps=100, imagined=4.0, teach_labels=False)
    assert math.exp(cost_shifts(table({"x": untaught}, {"x": "cell"}), "x")[0]) == pytest.approx(2.0)


def test_further_worlds_are_of_the_family():
    one = table({"some": measured("some", 1.35)}, {"some": "cell"})
    others = [
        table({"some": measured("some", 1.35)}, {"some": "cell"}, stage="further", kind="further", name=f"v{number}")
        for number in range(4)
    ]
    assert claims([one])["w", "few", "some"] == "fewer labels"
    assert claims([one, *others])["w", "few", "some"] == "not shown"


def test_where_no_policy_is_trained_no_gradient_is_counted():
    idle = measured("idle", 1.0, steps=0, rows=4)
    of = table({"idle": idle}, {"idle": "cell"})
    of = dataclasses.replace(
        of,
        baseline=dataclasses.replace(of.baseline, measured=measured("passive", 1.0, steps=0)),
        metric="simple_regret",
        left_out={"looks": "there is no policy"},
    )
    gradients, prompts = cost_shifts(of, "idle")
    assert math.isnan(gradients)
    assert math.exp(prompts) == pytest.approx(2.0)
    text = table_text(of, claims([of]))
    assert "minus simple regret; passive ends at" in text
    assert "not played, looks: there is no policy" in text
    assert [line.split()[1] for line in text.splitlines() if line.startswith("idle")][-1] == "-"


def test_many_worlds_stand_three_in_a_row():
    worlds = [table({"x": measured("x", 1.0)}, {"x": "cell"}, name=f"w{number}") for number in range(5)]
    figure = labels_to_target(worlds)
    assert [axes.get_visible() for axes in figure.axes] == [True] * 5 + [False]
    assert figure.axes[0].get_gridspec().ncols == 3
    assert figure.axes[4].get_title("left") == "w4\nwin rate"


def test_passive_is_followed_to_its_own_end_and_the_others_to_theirs():
    of = table({"slow": measured("slow", 0.1)}, {"slow": "cell"})
    (axes,) = labels_to_target([dataclasses.replace(of, baseline=dataclasses.replace(of.baseline, labels=40))]).axes
    marks = {line.get_marker(): (line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines}
    arrives, place = marks["o"]
    assert (marks[">"], place) == ((40.0, 0), 1)  # of the slow one
    assert 40 < arrives == of.comparisons["slow"].baseline_labels.value < axes.get_xlim()[1]


def test_an_arm_has_one_line_in_all_panels():
    first = table({"fast": measured("fast", 2.0), "slow": measured("slow", 0.1)}, {"fast": "cell", "slow": "cell"})
    second = table({"slow": measured("slow", 0.1), "late": measured("late", 0.1)}, {"slow": "cell", "late": "control"})
    left, right = labels_to_target([first, second]).axes
    lines = [tick.get_text() for tick in left.get_yticklabels()]
    assert lines == ["late", "slow", "fast", "passive"]
    assert {line.get_ydata()[0] for line in left.lines if line.get_marker() == "None"} >= {1, 2, 3}
    assert {line.get_ydata()[0] for line in right.lines if line.get_marker() == "None"} >= {0, 1, 3}


def test_a_table_names_every_arm_and_its_role():
    arms = {"fast": measured("fast", 2.0), "told": measured("told", 3.0)}
    of = table(arms, {"fast": "cell", "told": "privileged"})
    text = table_text(of, claims([of]))
    lines = [line.split()[:2] for line in text.splitlines() if line.startswith(("fast", "told", "passive  "))]
    assert lines[:3] == [["passive", "baseline"], ["told", "privileged"], ["fast", "cell"]]
    assert "NOT SETTLED" not in text


def test_every_trial_stands_in_the_table_and_the_best_is_marked():
    tuned = {"passive": Tuned("passive", ({"replay": 0}, {"replay": 14}), (0.7, 0.8))}
    assert [line.split() for line in tuning_text(REGIME, tuned).splitlines()[-2:]] == [
        ["replay=0", "0.700"],
        ["replay=14", "0.800*"],
    ]


def test_the_heat_map_says_what_was_only_screened():
    cells = tuple(Cell(name, "composed", {"ask": name}, {}, {}, {}, {}, ("few",)) for name in ("fast", "same"))
    study = Study("s", {}, (), (REGIME,), cells, (), {}, {})
    arms = {cell.name: measured(cell.name, 2.0 if cell.name == "fast" else 1.0) for cell in cells}
    figure = heat_map(study, table(arms, dict.fromkeys(arms, "cell"), stage="screen"), ["fast"])
    written = [text.get_text() for text in figure.axes[0].texts]
    assert [text.startswith("(") for text in written] == [False, True]
    assert len(figure.axes[0].patches) == 1


def test_the_heat_map_shows_the_baseline_where_its_two_rules_cross():
    rules = {"blind": ("random", {"teach": "best_worst"}), "far": ("dissimilar", {})}
    cells = tuple(
        Cell(name, "composed", {"ask": ask}, teach, {}, {}, {}, ("few",)) for name, (ask, teach) in rules.items()
    )
    arms = {name: measured(name, 2.0) for name in rules}
    axes = heat_map(
        Study("s", {}, (), (REGIME,), cells, (), {}, {}), table(arms, dict.fromkeys(arms, "cell")), []
    ).axes[0]
    (text,) = [text for text in axes.texts if "passive" in text.get_text()]
    column, row = text.get_position()
    labels = axes.get_xticklabels()[column].get_text(), axes.get_yticklabels()[row].get_text()
    assert (text.get_text(), labels) == ("1 (passive)", ("duel", "random"))


def test_an_arm_that_may_never_arrive_ends_in_an_arrow():
    arms = {"slow": measured("slow", 0.1), "fast": measured("fast", 2.0)}
    (axes,) = labels_to_target([table(arms, dict.fromkeys(arms, "cell"))]).axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["slow", "fast", "passive"]
    assert [line.get_marker() for line in axes.lines].count(">") == 1
