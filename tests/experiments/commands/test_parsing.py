"""Arguments that are wrong: the sentence says what was meant, or all that could have been."""

import pytest

from duelenv.experiments.commands.cli import main


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("rnu", "unknown command 'rnu': did you mean 'run'?"),
        ("xyz", "unknown command 'xyz': choose from aggregate, bench, "),
        ("run demo --ouput x", "unknown option '--ouput': did you mean '--output'?"),
        ("run demo --ouput=x", "did you mean '--output'?"),
        ("run demo --seeds 4", "unknown option '--seeds': 'seeds' is a setting, write seeds=4"),
        ("run demo --env.horizon=4", "'env.horizon' is a setting, write env.horizon=4"),
        ("sweep demo --first-seed 3", "'first_seed' is a setting, write first_seed=3"),
        ("run demo --horizon 9", "--output; a setting is written without dashes, horizon=9"),
        ("list --seeds 4", "unknown option '--seeds': choose from --help"),
        ("list all", "duelenv list: error: too many arguments: all"),
        ("run", "required: CONFIG"),
        ("labels x --last y", "--last is 'y', expected a whole number"),
        ("offline x --agent a --learn some", "--learn is 'some', expected a number"),
        ("export runs/x passive one out", "SEED is 'one', expected a whole number"),
        ("labels x --last", "--last: expected one argument"),
    ],
)
def test_a_wrong_argument_is_one_sentence(capsys, words, sentence):
    with pytest.raises(SystemExit) as caught:
        main(words.split())
    assert caught.value.code == 2
    assert sentence in capsys.readouterr().err.splitlines()[-1]


def test_the_help_loads_nothing_heavy():
    import subprocess
    import sys

    code = (
        "import sys; from duelenv.experiments.commands.cli import make_parser; make_parser(); "
        "print([name for name in ('torch', 'matplotlib', 'pyarrow', 'scipy.stats', 'rich') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
