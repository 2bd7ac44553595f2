"""What the README shows runs as it stands, and prints what it says."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def test_the_loop_prints_what_the_readme_says(capsys):
    text = README.read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1)
    exec(compile(code, "README.md", "exec"), {})
    printed = float(re.search(r"regret ([\d.]+)", capsys.readouterr().out).group(1))
    promised = float(re.search(r"It prints `regret ([\d.]+)", text).group(1))
    assert printed == pytest.approx(promised, rel=0.05)  # other processors round otherwise
