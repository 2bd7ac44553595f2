"""Who stands where: scales, ranks of those that played everything, and comparisons that allow for their number."""

import pytest
from leaderboard_parts import row, small, table

from duelenv import UserError
from duelenv.experiments.leaderboard.page import overview_rows
from duelenv.experiments.leaderboard.scores import Estimate
from duelenv.experiments.leaderboard.showing import comparison_rows, markdown, standings_rows, verdict, world_rows
from duelenv.experiments.leaderboard.standings import Line, comparisons, scale_of, standings
from duelenv.experiments.leaderboard.stored import Now, read_table, write_table
from duelenv.experiments.leaderboard.worlds import current
from duelenv.experiments.tables.statistics import Interval, holm, mean_interval

WORLDS = small()
ARMS = WORLDS.groups[0]
REPORTED = ARMS.of("reporting")
#: Regret of random arms is 10 in the one world, 40 in the other.
PLAYED = table(
    row("random", "easy", [8.0, 12.0, 9.0, 11.0]),
    row("random", "hard", [40.0, 40.0, 38.0, 42.0]),
    row("good", "easy", [1.0, 2.0, 1.0, 2.0]),
    row("good", "hard", [4.0, 8.0, 4.0, 8.0]),
    row("fair", "easy", [5.0, 5.0, 4.0, 6.0]),
    row("fair", "hard", [20.0, 20.0, 24.0, 16.0]),
    row("half", "easy", [0.0, 0.0, 0.0, 0.0]),
    row("half", "hard", refused="needs something else"),
)


def test_scores_ranks_and_order_by_hand():
    found = standings(PLAYED, ARMS, REPORTED)
    assert (found.scales["easy"].floor, found.scales["hard"].floor) == (10.0, 40.0)
    lines = {line.agent: line for line in found.lines}
    assert [line.agent for line in found.lines] == ["good", "fair", "random", "half"]
    assert lines["good"].scores == pytest.approx({"easy": 0.85, "hard": 0.85})
    assert lines["fair"].scores == pytest.approx({"easy": 0.5, "hard": 0.5})
    assert lines["random"].scores == pytest.approx({"easy": 0.0, "hard": 0.0})
    # Of good 0.9, 0.8, 0.9, 0.8 twice, of which 0.8, 0.8, 0.9, 0.9 are in the middle.
    assert lines["good"].iqm.value == pytest.approx(0.85)
    assert [lines[name].rank.value for name in ("good", "fair", "random")] == [1.0, 2.0, 3.0]


def test_who_missed_a_world_has_no_rank_and_moves_nobody():
    found = standings(PLAYED, ARMS, REPORTED)
    half = found.lines[-1]
    assert (half.agent, half.iqm, half.rank, half.behind) == ("half", None, None, None)
    assert half.scores == {"easy": 1.0}
    rows = standings_rows(found, PLAYED, {})
    assert rows[-1][:6] == ["half", "not all", "not all", "not all", "1.000", "-"]


def test_the_overview_tells_who_played_a_part_of_a_group_from_whom_it_does_not_fit():
    unfit = PLAYED.with_rows(row("half", world.name, refused="no") for world in REPORTED)
    groups = [standings(played, ARMS, REPORTED) for played in (PLAYED, unfit)]
    rows = {cells[0]: cells[1:] for cells in overview_rows(groups)}
    assert rows["half"] == ["not all", "-"]
    assert rows["good"] == ["0.850 (rank 1)", "0.850 (rank 1)"]


@pytest.mark.parametrize(("mean", "adjusted"), [(0.1, 0.9), (0.1, 0.01), (-0.1, 0.9)])
def test_who_is_not_shown_to_be_behind_leads_and_who_is_does_not(mean, adjusted):
    estimate = Estimate(0.5, 0.4, 0.6)
    assert Line("one", {}, {}, estimate, estimate, Interval(mean, mean - 0.01, mean + 0.01, 64, adjusted)).leads
    assert not Line("one", {}, {}, estimate, estimate, Interval(-0.1, -0.11, -0.09, 64, 0.01)).leads
    assert not Line("one", {}, {}).leads


def test_worlds_say_how_many_seeds_they_have():
    header, first, _ = world_rows(standings(PLAYED, ARMS, REPORTED))
    assert first[header.index("seeds")] == str(REPORTED[0].seeds) == "4"


def test_a_world_whose_floor_was_not_played_has_no_scale_and_counts_for_nobody():
    without = table(*(one for key, one in PLAYED.rows.items() if key != ("random", "hard")))
    assert scale_of(without, REPORTED[1]) is None
    found = standings(without, ARMS, REPORTED)
    assert [line.agent for line in found.lines] == ["half", "good", "fair", "random"]
    rows = {cells[0]: cells for cells in standings_rows(found, without, {})}
    assert rows["good"][5] == "no scale"
    assert rows["random"][5] == "absent"


def test_a_measured_ceiling_scores_1_and_is_no_entrant():
    worlds = small(ceiling={"agent": {"name": "told"}, "about": "told"})
    known = PLAYED.with_rows([row("told", "easy", [2.0] * 4), row("told", "hard", [10.0] * 4)])
    found = standings(known, worlds.groups[0], worlds.groups[0].of("reporting"))
    assert found.scales["easy"].ceiling == 2.0
    assert found.scales["hard"].scores([10.0, 40.0, 25.0]).tolist() == [1.0, 0.0, 0.5]
    assert "told" not in [line.agent for line in found.lines]


def test_rows_of_other_seeds_are_not_compared():
    other = PLAYED.with_rows([row("good", "easy", [1.0, 2.0, 1.0, 2.0], first_seed=60)])
    found = standings(other, ARMS, REPORTED)
    assert [line.agent for line in found.lines if line.iqm is not None] == ["fair", "random"]


def test_comparisons_are_paired_by_seed_and_corrected_for_all_of_them():
    found = comparisons(PLAYED, "good", [standings(PLAYED, ARMS, REPORTED)])
    assert [one.rival for one in found] == ["random", "fair"]
    # A seed is its mean over both worlds: good 0.9, 0.8, 0.9, 0.8; fair 0.5, 0.5, 0.5, 0.5.
    alone = mean_interval([0.4, 0.3, 0.4, 0.3])
    assert (found[1].difference.mean, found[1].difference.low) == pytest.approx((alone.mean, alone.low))
    uncorrected = [one.difference.p_value for one in found]
    assert [one.difference.adjusted for one in found] == holm(uncorrected)
    assert max(one.difference.adjusted for one in found) > min(uncorrected)
    assert [verdict(one.difference) for one in found] == ["better", "better"]
    assert verdict(comparisons(PLAYED, "random", [standings(PLAYED, ARMS, REPORTED)])[-1].difference) == "worse"


def test_a_row_says_why_it_is_stale():
    one = PLAYED.of("good", "easy")
    assert one.stale(Now("w", "1.0", "c")) is None
    assert one.stale(Now("v", "1.0", "c")) == "the world was changed since"
    assert one.stale(Now("w", "1.1", "c")) == "of version 1.0, this is 1.1"
    assert one.stale(Now("w", "1.0", "d")) == "its code or the world's was changed since"
    now = {("good", "easy"): Now("w", "1.1", "c"), ("good", "hard"): Now("w", "1.0", "c")}
    rows = {cells[0]: cells for cells in standings_rows(standings(PLAYED, ARMS, REPORTED), PLAYED, now)}
    assert rows["good"][-1] == "1.0, 2026-01-02, stale: of version 1.0, this is 1.1"
    assert rows["fair"][-1] == "1.0, 2026-01-02"


def test_a_comparison_says_whose_rows_are_stale():
    groups = [standings(PLAYED, ARMS, REPORTED)]
    now = {("fair", "hard"): Now("w", "1.0", "d"), ("random", "hard"): Now("w", "1.0", "c")}
    rows = comparison_rows(comparisons(PLAYED, "good", groups), groups, PLAYED, now)
    assert [(cells[1], cells[-1]) for cells in rows[1:]] == [
        ("random", "better"),
        ("fair", "better; the rival's rows are stale"),
    ]


def test_a_table_comes_back_as_it_was_written(tmp_path):
    write_table(tmp_path / "t.json", PLAYED)
    assert read_table(tmp_path / "t.json", "small-1") == PLAYED
    assert len((tmp_path / "t.json").read_text(encoding="utf-8").splitlines()) == 2 + len(PLAYED.rows)
    assert read_table(tmp_path / "none.json", "small-1").rows == {}
    with pytest.raises(UserError, match="is of the worlds 'small-1', expected 'small-2'"):
        read_table(tmp_path / "t.json", "small-2")
    (tmp_path / "t.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(UserError, match="is no table of a leaderboard"):
        read_table(tmp_path / "t.json", "small-1")


def test_the_worlds_of_the_project_keep_their_sets_apart():
    worlds = current()
    reporting, development = worlds.chosen("reporting"), worlds.chosen("development")
    assert (
        {world.group for world in reporting}
        == {world.group for world in development}
        == {g.name for g in worlds.groups}
    )
    seeds = [{*range(world.first_seed, world.first_seed + world.seeds)} for world in (*reporting, *development)]
    assert not set().union(*seeds[: len(reporting)]) & set().union(*seeds[len(reporting) :])
    instances = [repr([world.shared, world.env, world.pool]) for world in worlds.worlds]
    assert len(set(instances)) == len(instances)
    assert {world.metric for world in reporting if world.group == "karmed"} == {"regret_average", "regret_von_neumann"}
    assert sum(world.pool is not None for world in reporting) >= 2
    assert {"exact", "label_limited", "step_limited"} <= {world.name for world in reporting}


def test_worlds_that_cannot_be_are_refused_in_a_sentence():
    with pytest.raises(UserError, match=r"'groups\.arms\.seeds' is 6, expected a multiple of 4"):
        small(seeds=6)
    with pytest.raises(UserError, match="needs 'value' or 'agent', and not both"):
        small(ceiling={"about": "nothing"})
    with pytest.raises(UserError, match="'esay' is unknown: did you mean 'easy'"):
        WORLDS.chosen("reporting", ("esay",))
    with pytest.raises(UserError, match="tried"):
        WORLDS.chosen("development", ("easy",))


def test_a_changed_world_has_another_digest_for_those_whom_it_concerns():
    before, after = small().worlds[0], small(needs={"selm": {"horizon": 3}}).worlds[0]
    assert before.digest("rucb") == after.digest("rucb")
    assert before.digest("selm") != after.digest("selm")
    assert small(seeds=8).worlds[0].digest("rucb") != before.digest("rucb")


def test_markdown_escapes_what_would_end_a_cell():
    assert markdown([["agent", "x"], ["a|b", "1.0"]], ["a|b"]).splitlines() == [
        "| agent | x |",
        "| :-- | --: |",
        "| **a\\|b** | 1.0 |",
    ]
