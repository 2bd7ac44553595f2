"""What was asked and what came out, in sentences."""

from made_up_runs import change_config, policy_run, regret_run

from duelenv.experiments.report import summary
from duelenv.experiments.results.measurements import Results
from duelenv.experiments.tables.regret import tables
from duelenv.experiments.tables.targets import Reach, TargetLine, TargetTable


def said(results):
    return summary.came_out(results, tables(results), [])


def test_the_best_and_what_is_shown_after_correction(tmp_path):
    results = Results(policy_run(tmp_path))
    (text,) = said(results)
    assert text.startswith("After 20 labels a seed, 'better' has the highest mean win rate, 0.805 ±")
    assert "'passive' has 0.705 ±" in text
    expected = "Against 'passive', shown after correction for 2 comparisons (Holm): 'better' better; "
    assert text.endswith(f"{expected}no difference is shown for 'alike'.")


def test_where_lower_is_better_the_lowest_is_named(tmp_path):
    results = Results(regret_run(tmp_path, {"random": 0.5, "a": 0.2, "b": 1.0}))
    (text,) = said(results)
    assert "'a' has the lowest mean average regret, cumulative" in text
    assert "(Holm): 'a' better, 'b' worse." in text


def test_one_seed_tells_no_difference(tmp_path):
    results = Results(policy_run(tmp_path, seeds=1, agents={"passive": [0.5], "better": [0.9]}))
    assert said(results)[0].endswith("With one seed no difference can be told from what seeds do by themselves.")


def test_the_description_of_the_config_comes_first_in_its_own_paragraphs(tmp_path):
    directory = change_config(policy_run(tmp_path), description="Who is best?\nOf three.\n\nBy labels.\n")
    results = Results(directory)
    own = "3 agents, each with 4 seeds, by win rate (higher is better), against 'passive'."
    assert summary.asked(results) == ["Who is best? Of three.", "By labels.", own]
    assert summary.setting(results) == "duelenv/AlignmentDuel-v0 · policy toy · oracle length · 10 rounds · 4 seeds"


def test_labels_are_those_that_were_asked_for_not_those_of_the_budget(tmp_path):
    directory = policy_run(tmp_path)
    assert "'passive', at 20 labels each." in summary.asked(Results(change_config(directory, budget=20)))[-1]
    text = summary.asked(Results(change_config(directory, budget=400)))[-1]
    assert text.endswith("'passive', at 20 labels each, of a budget of 400.")


def test_a_target_of_another_metric_than_the_regret_that_adds_up_is_named(tmp_path):
    results = Results(regret_run(tmp_path, {"random": 0.5, "a": 0.2}))
    reach = Reach(200.0, 150.0, 250.0)
    lines = (
        TargetLine("a", Reach(50.0, 40.0, 60.0), Reach(4.0, 3.0, 5.0), 0.0),
        TargetLine("random", reach, None, 0.0),
    )
    for metric, words in (("simple_regret", " in simple regret"), (results.primary, "")):
        table = TargetTable(metric, "random", 0.1, 1000.0, lines, "lower")
        (text,) = summary.came_out(results, tables(results), [table])
        assert f"90 % of what 'random' gains{words} takes 'a' the fewest labels, 50 against 200." in text
