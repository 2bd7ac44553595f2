"""The examples of docs/python.md run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "python.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_runs(number, tmp_path):
    script = tmp_path / "example.py"
    script.write_text(EXAMPLES[number], encoding="utf-8")
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if number == 0:
        assert (tmp_path / "regret.png").stat().st_size > 1000
        assert re.search(r"^thompson -?\d\.\d+ ", done.stdout, re.MULTILINE)
    else:
        assert "duel     " in done.stdout


def test_there_are_two():
    assert len(EXAMPLES) == 2
