"""A run folder that a stranger packed: its links are followed neither to write nor to read, no pipe is waited for."""

import os

import pytest
from made_up_runs import numeric_run

from duelenv.experiments.commands.cli import main
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.folder.enclosure import check_enclosed
from duelenv.experiments.report.page import write_report
from duelenv.experiments.results.export import export_model
from duelenv.experiments.running.runner import run
from duelenv.ground.errors import UserError

CONFIG = {"name": "links", "env": {"id": "FeatureDuel", "horizon": 3}, "agents": ["passive"], "jobs": 1}


@pytest.fixture
def victim(tmp_path):
    path = tmp_path / "victim"
    path.write_text("precious")
    return path


@pytest.mark.parametrize("name", ["run.lock", "run.json", "cells/passive-seeds1/cell.lock", "spent.sqlite"])
def test_a_run_writes_through_no_link_that_leads_out(tmp_path, victim, name):
    link = tmp_path / "run" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(victim)
    if name != "run.lock":
        (tmp_path / "run" / "run.lock").touch()
    with pytest.raises(UserError, match=r"is a link to '.*victim', which is not in the run folder"):
        run(RunConfig.from_dict(CONFIG), tmp_path / "run", progress=False)
    assert victim.read_text() == "precious"


def test_looking_at_a_run_follows_no_link_that_leads_out(tmp_path, victim):
    (tmp_path / "run").mkdir()
    folder = numeric_run(tmp_path / "run")
    (folder / "cells").mkdir(exist_ok=True)
    (folder / "cells" / "elsewhere").symlink_to(tmp_path, target_is_directory=True)
    for look in (write_report, lambda place: export_model(place, "passive", 0, tmp_path / "model")):
        with pytest.raises(UserError, match=r"is a link to .* which is not in the run folder"):
            look(folder)
    assert not (tmp_path / "model").exists()


def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    folder = numeric_run(tmp_path / "run")
    (folder / "run.json").unlink(missing_ok=True)
    os.mkfifo(folder / "run.json")
    assert main(["report", str(folder)]) == 2
    assert "is neither a file nor a folder" in capsys.readouterr().err


def test_links_within_a_run_folder_and_to_it_are_let_pass(tmp_path):
    folder = tmp_path / "run"
    (folder / "a").mkdir(parents=True)
    (folder / "b").symlink_to("a")
    (tmp_path / "linked").symlink_to(folder)
    check_enclosed(folder)
    check_enclosed(tmp_path / "linked")
    check_enclosed(tmp_path / "absent")
    (folder / "a" / "c").symlink_to("../../beside")  # to nothing as yet
    with pytest.raises(UserError, match=r"'\.\./\.\./beside', which is not in the run folder"):
        check_enclosed(tmp_path / "linked")
