"""What is written of where a run ran: no variables of the environment, and no program of a stranger's repository."""

import json
import subprocess

import pytest

from duelenv.experiments.folder.environment import add_start, describe


def git(folder, *words):
    settings = ("-c", "user.name=n", "-c", "user.email=e", "-c", "core.fsmonitor=false")
    subprocess.run(["git", *settings, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with a committed file, where this process stands."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "file").write_text("one\n")
    git(folder, "add", "file")
    git(folder, "commit", "-qm", "first")
    monkeypatch.chdir(folder)
    return folder


def written(tmp_path):
    add_start(tmp_path / "environment.json", {"started": "now"})
    return json.loads((tmp_path / "environment.json").read_text())


def test_a_change_since_the_commit_is_found(repository, tmp_path):
    assert written(tmp_path)["dirty"] is False
    (repository / "file").write_text("two\n")
    found = written(tmp_path)
    assert len(found["commit"]) == 40
    assert found["dirty"] is True


@pytest.mark.parametrize("setting", ["core.fsmonitor", "filter.theirs.clean"])
def test_programs_that_a_repository_names_are_not_started(repository, tmp_path, setting):
    mark = tmp_path / "ran"
    (repository / ".gitattributes").write_text("file filter=theirs\n")
    git(repository, "config", setting, f"touch '{mark}'; cat")
    (repository / "file").write_text("ONE\n")
    found = written(tmp_path)
    assert not mark.exists()
    assert len(found["commit"]) == 40
    assert found["dirty"] is (None if "filter" in setting else True)


def test_variables_of_the_environment_are_not_written(tmp_path, monkeypatch):
    monkeypatch.setenv("JUDGE_TOKEN", "sk-very-secret")
    add_start(tmp_path / "environment.json", describe(with_torch=False))
    assert "sk-very-secret" not in (tmp_path / "environment.json").read_text()
