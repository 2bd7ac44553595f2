"""Where the numbers come from, as far as it was written down."""

import json

from made_up_runs import policy_run

from duelenv.experiments.folder import files
from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.report.provenance import provenance
from duelenv.experiments.results.measurements import Results

START = {"python": "3.12", "processor": "a fast one", "versions": {"numpy": "2.4"}, "started": "2026-01-01T00:00:00Z"}


def lines(directory):
    return dict(provenance(RunFolder(directory), Results(directory).config))


def test_command_commit_contents_and_versions_are_told(tmp_path):
    directory = policy_run(tmp_path)
    earlier = {**START, "command": "duelenv run x", "commit": "b" * 40, "dirty": False}
    last = {**START, "command": "duelenv run demo seeds=4", "commit": "a" * 40, "dirty": True, "earlier": [earlier]}
    (directory / "environment.json").write_text(json.dumps(last))
    settings = Results(directory).config.deciding()
    files.write_sealed(directory / "run.json", {"settings": settings, "contents": {"data.path": "c" * 64}})
    told = lines(directory)
    assert told["command"] == "duelenv run demo seeds=4"
    assert told["commit"] == f"{'a' * 40}, with changes that are not committed"
    assert told["processor"] == "a fast one"
    assert told["packages"] == "numpy 2.4"
    assert told["SHA-256 of data.path"] == "c" * 64
    assert told["SHA-256 of results.parquet"] == files.digest_of(directory / "results.parquet")
    assert told["cells played on"].startswith("2: a fast one, threads:")
    assert told["cells played on"].endswith("python 3.12, numpy 2.4")
    assert "commits of duelenv" not in told.get("caution", "")
    assert told["starts"] == f"2, of commits {'b' * 12}, {'a' * 12}"


def test_what_was_not_written_down_is_not_told(tmp_path):
    directory = policy_run(tmp_path)
    told = lines(directory)
    assert set(told) == {"threads of a cell", "SHA-256 of the settings", "SHA-256 of results.parquet"}
    (directory / "environment.json").write_text(json.dumps({**START, "commit": None, "dirty": None}))
    assert lines(directory)["commit"] == "not in a repository"
