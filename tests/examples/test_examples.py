"""The examples run as they stand, and show what they claim."""

import re
import runpy
from pathlib import Path

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
