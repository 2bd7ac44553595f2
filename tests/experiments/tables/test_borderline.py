"""Verdicts that hang on one seed: by hand on both sides, and by playing without each seed in turn."""

import numpy as np
import pytest
from made_up_runs import change_config, policy_run, regret_run

from duelenv.experiments.report.page import write_report
from duelenv.experiments.results.measurements import Results
from duelenv.experiments.tables.borderline import judged, judged_alone, marks_of
from duelenv.experiments.tables.comparison import comparison_table
from duelenv.experiments.tables.gains import gains_table
from duelenv.experiments.tables.groups import group_agents
from duelenv.experiments.tables.regret import regret_table
from duelenv.experiments.tables.statistics import corrected, mean_interval
from duelenv.experiments.tables.text_table import difference_text


def by_seed(*values, first=0):
    return dict(enumerate(values, first))


@pytest.mark.parametrize(
    ("values", "shown", "turns"),
    [
        # t is 3 with 3 degrees of freedom, and 3.18 is needed; without seed 0 nothing varies, without another t is 2.
        ((0.0, 3.0, 3.0, 3.0), False, (0,)),
        ((0.0, 0.1, 0.1, 0.1), False, (0,)),  # where rounding would leave a variance below 0
        # t is 7 sqrt(3) with 2 degrees of freedom, and 4.30 is needed. Without seed 1 it is 7, without the others 15
        # and 13, and 12.71 is needed.
        ((6.0, 7.0, 8.0), True, (1,)),
        ((-6.0, -7.0, -8.0), True, (1,)),
        ((4.0, 5.0, 6.0), True, (0, 1, 2)),  # t without each: 11, 5, 9
        ((13.0, 14.0, 15.0), True, ()),  # at least 14
        ((1.0, -1.0, 1.0, -1.0), False, ()),
        ((1.0, 1.0), True, (0, 1)),  # one seed shows nothing
        ((1.0, 1.0, 1.0), True, ()),
        ((0.0, 0.0, 0.0), False, ()),
        ((0.0, 0.0, 5.0, 0.0), False, ()),  # all that is left is no difference, to the last digit
    ],
)
@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e9])
def test_the_seeds_that_turn_a_verdict_by_hand(values, shown, turns, scale):
    found = judged_alone(by_seed(*(scale * value for value in values)))
    assert (found.shows_difference, found.turns_without) == (shown, turns)
    assert found.adjusted is None


def test_a_family_turns_as_a_whole():
    """A second comparison doubles p: .007 is still shown, and .042 without seed 0 (t is 15) and .049 (13) no longer."""
    sure, nothing = by_seed(6.0, 7.0, 8.0), by_seed(1.0, -1.0, 0.5)
    assert judged_alone(sure).turns_without == (1,)
    one, none, baseline = judged([sure, nothing, None])
    assert one.shows_difference and one.turns_without == (0, 1, 2)
    assert not none.shows_difference and none.turns_without == ()
    assert baseline is None


def slow(family):
    """Without each seed in turn: everything anew from what is left."""
    whole = corrected([None if one is None else mean_interval(list(one.values())) for one in family])
    turns = [[] for _ in family]
    for seed in sorted({seed for one in family if one is not None for seed in one}):
        left = [
            None if one is None else mean_interval([value for other, value in one.items() if other != seed])
            for one in family
        ]
        for number, (before, after) in enumerate(zip(whole, corrected(left), strict=True)):
            if before is None or before.seeds < 2:
                continue
            signs = [one.shows_difference * np.sign(one.mean) for one in (before, after)]
            if signs[0] != signs[1]:
                turns[number].append(seed)
    return [tuple(one) for one in turns]


def test_it_is_as_playing_without_each_seed_in_turn():
    generator = np.random.default_rng(0)
    marked = 0
    for _ in range(40):
        size = int(generator.integers(2, 9))
        family = [
            by_seed(*generator.normal(generator.choice([0.0, 1.0, 2.0]), 1.0, size), first=int(generator.integers(3)))
            for _ in range(4)
        ] + [None, by_seed(1.0)]
        family[0].pop(min(family[0]))
        turns = [() if one is None else one.turns_without for one in judged(family)]
        assert turns == slow(family)
        marked += sum(map(bool, turns))
    assert 20 < marked < 140  # both sides


def test_words_name_the_seeds_or_count_them():
    assert difference_text(judged_alone(by_seed(6.0, 7.0, 8.0, first=5))) == (
        "+7.000 [+4.516, +9.484] of only 3 seeds; borderline: turns without seed 6"
    )
    assert difference_text(judged_alone(by_seed(0.0, 3.0, 3.0, 3.0))) == (
        "+2.250 [-0.137, +4.637] no difference shown; of only 4 seeds; borderline: turns without seed 0"
    )
    assert marks_of(judged_alone(by_seed(4.0, 5.0, 6.0))) == "of only 3 seeds; borderline: turns without seed 0, 1 or 2"
    # t is 3.46 and 3.18 is needed; of three it is 3.5 at most, and 4.30 is needed.
    assert (
        marks_of(judged_alone(by_seed(1.0, 1.0, 3.0, 3.0)))
        == "of only 4 seeds; borderline: turns without any one of 4 of 4 seeds"
    )
    assert marks_of(judged_alone(by_seed(*range(101, 106)))) == marks_of(None) == ""


AGENTS = {"passive": [0.5, 0.5, 0.5], "barely": [0.56, 0.57, 0.58], "surely": [0.94, 0.95, 0.96]}


def test_tables_and_page_say_so(tmp_path):
    """Holm leaves the larger p-value, of `barely`, as it is; `surely` comes to .028 where its t is least, 45."""
    directory = policy_run(tmp_path, agents=AGENTS, seeds=3)
    table = comparison_table(Results(directory))
    lines = {line.agent: line for line in table.lines}
    assert lines["barely"].difference.turns_without == (1,)
    assert lines["surely"].difference.turns_without == ()
    assert "+0.070 [+0.045, +0.095] of only 3 seeds; borderline: turns without seed 1" in table.text()
    assert "; borderline: the verdict would be the other if that one seed had not been played;" in table.caption
    assert table.outcome(lines["barely"]) == "better; of only 3 seeds; borderline: turns without seed 1"
    assert (table.outcome(lines["surely"]), table.outcome(lines["passive"])) == ("better; of only 3 seeds", "baseline")
    header, *rows = (row.split(",") for row in table.csv().splitlines())
    assert header[-1] == "difference_turns_without"
    assert [row[-1] for row in rows] == ["", "1", ""]
    page = write_report(directory).read_text()
    assert '<span class="rest note">better; of only 3 seeds; borderline: turns without seed 1</span>' in page
    assert "[+0.045, +0.095]" in page


def test_where_nothing_is_borderline_nothing_is_said(tmp_path):
    agents = {name: AGENTS[name] for name in ("passive", "surely")}
    table = comparison_table(Results(policy_run(tmp_path, agents=agents, seeds=3)))
    assert "borderline" not in table.text() + table.caption


def test_the_tables_of_gains_and_of_regret_say_so_too(tmp_path):
    directory = change_config(policy_run(tmp_path / "gains", agents=AGENTS, seeds=3), report_at=[10])
    results = Results(directory)
    gains = gains_table(results, group_agents(results)[0])
    marks = [[one and one.turns_without for one in line.differences] for line in gains.lines]  # of four comparisons
    assert marks[0] == [None, None] and marks[1] == [(0, 1, 2), (0, 1, 2)]
    assert "borderline" in gains.caption and "borderline" in gains.text()
    assert gains.csv().splitlines()[3].endswith(",0 1 2")
    # Replicates differ by factors of 0.9, 1 and 1.1: t is 10 sqrt(3); without them in turn 21, 10 and 19.
    regret = regret_table(Results(regret_run(tmp_path / "regret", {"random": 1.0, "other": 0.5}, seeds=3)))
    assert [line.difference and line.difference.turns_without for line in regret.lines] == [(1,), None]
    assert "; borderline: " in regret.caption and "borderline: turns without seed 1" in regret.text()
    assert regret.csv().splitlines()[1].endswith(",1")
