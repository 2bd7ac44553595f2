"""The examples run as they stand, and show what they claim."""

import re
import runpy
from pathlib import Path

from duelenv.testing import check_belief

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_example_agent_learns_more_from_the_same_labels_than_random_pairs(capsys):
    runpy.run_path(str(EXAMPLES / "my_agent.py"), run_name="__main__")
    figures = re.findall(r"(\w+) +simple regret ([\d.]+) \+- ([\d.]+)", capsys.readouterr().out)
    (_, passive, _), (_, mine, error) = figures
    assert float(mine) < float(passive) - 2 * float(error)


def test_the_example_oracle_shortens_answers(capsys):
    runpy.run_path(str(EXAMPLES / "my_oracle.py"), run_name="__main__")
    printed = capsys.readouterr().out
    win_rate = float(re.search(r"start policy: ([\d.]+)", printed).group(1))
    assert win_rate > 0.6
    assert printed.count("before:") == 3


def test_the_example_belief_passes_the_check_and_the_linear_one_knows_more(capsys):
    names = runpy.run_path(str(EXAMPLES / "my_belief.py"), run_name="__main__")
    figures = re.findall(r"(\w+) +simple regret ([\d.]+) \+- ([\d.]+)", capsys.readouterr().out)
    regrets = {name: float(regret) for name, regret, _ in figures}
    assert set(regrets) == {"linear_logistic", "measured"}
    assert max(regrets.values()) < 0.6
    check_belief(names["Measured"])


def test_the_example_teacher_moves_the_policy_by_its_belief_alone(capsys):
    runpy.run_path(str(EXAMPLES / "my_teacher.py"), run_name="__main__")
    win_rate, kl = re.search(r"start policy: ([\d.]+), KL ([\d.]+)", capsys.readouterr().out).groups()
    assert float(win_rate) > 0.7
    assert float(kl) > 0.1
