"""Tables on terminals: nothing is cut, no number is broken, and what is no terminal gets lines of any length."""

import sys

import pytest
from made_up_runs import policy_run

from duelenv.experiments.commands.printing import print_tables
from duelenv.experiments.results.measurements import Results
from duelenv.experiments.tables.layout import laid_out

ROWS = [
    ["agent", "labels", "win rate", "difference to passive", "time of a duel"],
    ["passive", "1,240", "0.717 ± 0.142", "baseline", "3.7 s"],
    ["selm", "240", "0.759 ± 0.098", "+0.043 [-0.144, +0.229] no difference shown (to random)", "15.2 s"],
]
WHOLE = """\
agent    labels       win rate  difference to passive                                    time of a duel
-------------------------------------------------------------------------------------------------------
passive   1,240  0.717 ± 0.142  baseline                                                          3.7 s
selm        240  0.759 ± 0.098  +0.043 [-0.144, +0.229] no difference shown (to random)          15.2 s"""
NARROW = """\
agent    labels       win rate  difference to passive      time
                                                           of a
                                                           duel
---------------------------------------------------------------
passive   1,240  0.717 ± 0.142  baseline                  3.7 s
selm        240  0.759 ± 0.098  +0.043 [-0.144, +0.229]  15.2 s
                                no difference shown (to
                                random)"""
BLOCKS = """\
agent    labels       win rate
------------------------------
passive   1,240  0.717 ± 0.142
selm        240  0.759 ± 0.098

agent    difference to passive
--------------------------------
passive  baseline
selm     +0.043 [-0.144, +0.229]
         no difference shown (to
         random)

agent      time
           of a
           duel
---------------
passive   3.7 s
selm     15.2 s"""


@pytest.mark.parametrize(
    ("width", "text"),
    [(None, WHOLE), (200, WHOLE), (103, WHOLE), (102, NARROW), (63, NARROW), (33, BLOCKS), (10, None)],
)
def test_a_table_in_any_width(width, text):
    made = laid_out(ROWS, (0, 3), width)
    if text is not None:
        assert made == text
        assert width is None or max(map(len, made.splitlines())) <= width
    for piece in ("1,240", "0.759 ± 0.098", "+0.043 [-0.144, +0.229]", "15.2 s", "passive", "baseline"):
        assert any(piece in line for line in made.splitlines())  # whole, however narrow it is


@pytest.mark.parametrize("terminal", [True, False])
def test_only_a_terminal_has_a_width(tmp_path, capsys, monkeypatch, terminal):
    results = Results(policy_run(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    print_tables(results)
    output = capsys.readouterr().out
    longest = max(map(len, output.splitlines()))
    assert (longest <= 80) == terminal
    assert "\x1b" not in output
    assert "0.805 ± 0.033" in output and "+0.100 [+0.087, +0.113]" in output


def test_a_mean_stays_with_its_interval_however_long():
    long = "-1,442,000 [-1,466,000, -1,418,000]"
    made = laid_out([["agent", "difference"], ["passive", "baseline"], ["rcdp", f"{long} no difference"]], (0, 1), 20)
    assert long in made
    assert f"{long} no" not in made
