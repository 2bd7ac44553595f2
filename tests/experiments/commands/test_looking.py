"""Who looks at the run of somebody else runs none of their code, and sees what they wrote as text."""

import json
import subprocess
import sys

import pytest
import yaml

#: Clears the screen, names the window, turns the reading order, and ends a cell of a page.
EVIL = "\x1b[2J\x1b]0;mine\x07\x9b31m\u202e</td><script>alert(1)</script>"
OBEYED = ("\x1b", "\x07", "\x9b", "\u202e")


def command(*words, folder):
    """Runs the command as a process, whose warnings and tracebacks are its own."""
    return subprocess.run(
        [sys.executable, "-m", "duelenv.experiments.commands.cli", *map(str, words)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=folder,
        check=False,
    )


def prints_nothing_obeyed(done):
    for said in (done.stdout, done.stderr):
        assert not [letter for letter in OBEYED if letter in said]
    return done


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Holds a finished run of texts from a table, with a module that has done nothing but load so far."""
    root = tmp_path_factory.mktemp("theirs")
    (root / "theirs.py").write_text("LOADED = True\n")
    rows = [
        {"prompt": f"{EVIL} {prompt}", "response": f"{EVIL} {'word ' * place}", "score": place}
        for prompt in range(6)
        for place in range(3)
    ]
    (root / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {
        "name": "theirs",
        "env": {"id": "PoolDuel", "horizon": 4, "num_candidates": 2},
        "data": "pool.jsonl",
        "agents": ["passive"],
        "modules": ["theirs.py"],
        "jobs": 1,
    }
    (root / "config.yaml").write_text(yaml.safe_dump(config))
    played = command("run", "config.yaml", "--output", "run", folder=root)
    assert played.returncode == 0, played.stderr
    prints_nothing_obeyed(played)
    return root


@pytest.fixture
def armed(root):
    """The same, whose module now leaves a file behind where it is loaded."""
    (root / "theirs.py").write_text("open('loaded', 'w').close()\n")
    yield root
    assert not (root / "loaded").exists()


@pytest.mark.slow
@pytest.mark.parametrize("words", [["report"], ["labels", "--export", "labels.csv"], ["labels", "--last", "9"]])
def test_looking_runs_no_code_and_prints_no_escape_sequence(armed, words):
    name, *rest = words
    done = prints_nothing_obeyed(command(name, "run", *rest, folder=armed))
    assert done.returncode == 0, done.stderr
    assert name == "report" or r"\x1b[2J\x1b]0;mine\x07\x9b31m\u202e" in done.stdout


def test_neither_export_nor_show_loads_the_modules_of_a_run(armed):
    assert "no policy" in command("export", "run", "passive", 0, "model", folder=armed).stderr
    done = command("show", "run/config.yaml", folder=armed)
    assert done.returncode == 2
    assert "lies in a run folder and names Python" in done.stderr


def test_texts_of_a_run_are_no_markup_on_its_page(root):
    page = (root / "run" / "report.html").read_text(encoding="utf-8")
    assert "&lt;/td&gt;&lt;script&gt;alert(1)" in page
    assert page.count("<script") == 1  # its own
    policy = page.partition('http-equiv="Content-Security-Policy" content="')[2].partition('"')[0]
    assert "default-src 'none'" in policy
    assert policy.count("script-src 'sha256-") == 1  # of its own, and no other
    assert "script-src 'unsafe" not in policy


@pytest.mark.parametrize("dry", [[], ["--dry"]])
def test_names_and_failures_of_code_are_printed_as_text(root, tmp_path, dry):
    (tmp_path / "bad.py").write_text(f"import warnings\nwarnings.warn({EVIL!r})\nraise RuntimeError({EVIL!r})\n")
    config = yaml.safe_load((root / "config.yaml").read_text()) | {
        "modules": ["bad.py"],
        "data": str(root / "pool.jsonl"),
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    done = prints_nothing_obeyed(command("run", "config.yaml", *dry, folder=tmp_path))
    assert done.returncode == 2
    assert r"\x1b[2J" in done.stderr


def test_a_table_is_shown_as_text(root):
    config = yaml.safe_load((root / "config.yaml").read_text()) | {"modules": []}
    (root / "plain.yaml").write_text(yaml.safe_dump(config))
    done = prints_nothing_obeyed(command("show", "plain.yaml", folder=root))
    assert done.returncode == 0, done.stderr
    assert r"\x1b[2J" in done.stdout
