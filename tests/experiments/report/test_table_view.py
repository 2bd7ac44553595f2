"""Cells in parts, what they are sorted by, and lines in groups of worlds."""

import pytest
from made_up_runs import change_config, policy_run, regret_run

from duelenv.experiments.report.overview import overview
from duelenv.experiments.report.table_view import cell_of, table_view
from duelenv.experiments.results.measurements import Results
from duelenv.experiments.tables.regret import tables


@pytest.mark.parametrize(
    ("text", "lead", "rest", "note", "sort"),
    [
        ("0.713 ± 0.021", "0.713", "± 0.021", "", 0.713),
        ("1,234", "1,234", "", "", 1234.0),
        ("-0.10 [-0.15, -0.05] no difference shown", "-0.10", "[-0.15, -0.05]", "no difference shown", -0.1),
        ("+1,543.2 [+1.0, +2,000.0]", "+1,543.2", "[+1.0, +2,000.0]", "", 1543.2),
        ("2 min 03 s", "2 min 03 s", "", "", 123.0),
        ("1 h 20 min", "1 h 20 min", "", "", 4800.0),
        ("48.3 % ± 2.6", "48.3 %", "± 2.6", "", 48.3),
        ("37.6 µs", "37.6 µs", "", "", 37.6e-6),
        ("1.2e+03 µs", "1.2e+03 µs", "", "", 1.2e-3),
        ("baseline", "baseline", "", "", None),
        ("-", "-", "", "", None),
        ("> 2,000 [> 2,000, > 2,000]", "> 2,000 [> 2,000, > 2,000]", "", "", None),
        ("", "", "", "", None),
    ],
)
def test_a_cell_is_taken_apart(text, lead, rest, note, sort):
    cell = cell_of(text)
    assert (cell.lead, cell.rest, cell.note) == (lead, rest, note)
    assert cell.sort == (sort if sort is None else pytest.approx(sort))


def test_a_difference_says_which_way_and_only_what_is_shown_stands_out(tmp_path):
    results = Results(policy_run(tmp_path))
    (view,) = [table_view(results, table) for table in tables(results)]
    ((passive, better, alike),) = [group.rows for group in view.groups]
    place = view.words[1]
    assert passive.kind == "baseline"
    assert (better.cells[place].note, better.cells[place].shown) == ("better; of only 4 seeds", True)
    assert (alike.cells[place].note, alike.cells[place].shown) == ("no difference shown; of only 4 seeds", False)


def test_after_fewer_labels_too_what_is_shown_says_which_way(tmp_path):
    results = Results(change_config(policy_run(tmp_path), report_at=[10]))
    table = next(table for table in tables(results) if table.name == "gains")
    ((passive, better, alike),) = [group.rows for group in table_view(results, table).groups]
    assert [cell.note for cell in passive.cells] == [""] * 5
    assert [better.cells[place].note for place in (2, 4)] == ["better; of only 4 seeds"] * 2
    assert [better.cells[place].shown for place in (2, 4)] == [True, True]
    assert [alike.cells[place].note for place in (2, 4)] == ["no difference shown; of only 4 seeds"] * 2


def test_lines_of_several_worlds_are_groups_with_the_names_that_agents_have_there(tmp_path):
    variants = {"x": {"feedback": "bernoulli"}, "y": {"feedback": "argmax"}}
    directory = regret_run(tmp_path, {"random": 1.0, "a": 0.5}, variants=variants, baseline="random-x")
    results = Results(directory)
    made = tables(results)
    view = table_view(results, made[0])
    assert [group.title for group in view.groups] == ["feedback = bernoulli", "feedback = argmax"]
    assert [[row.cells[0].lead for row in group.rows] for group in view.groups] == [["a", "random"]] * 2
    glance = overview(results, made)
    assert glance.header == ("agent", "feedback = bernoulli", "feedback = argmax")
    ((first, last),) = [group.rows for group in glance.groups]
    assert first.cells[0].lead == "a"
    assert [cell.note for cell in first.cells[1:]] == ["better", "better"]
    assert last.kind == "baseline"
    assert [cell.note for cell in last.cells[1:]] == ["", ""]


def test_one_world_needs_no_glance(tmp_path):
    results = Results(policy_run(tmp_path))
    assert overview(results, tables(results)) is None
