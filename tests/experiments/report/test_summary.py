"""What was asked and what came out, in sentences."""

from made_up_runs import change_config, policy_run, regret_run

from duelenv.experiments.report import summary
from duelenv.experiments.results.measurements import Results
from duelenv.experiments.tables.regret import tables


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
