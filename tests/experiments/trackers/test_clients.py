"""Trackers against the real clients, in their local or offline mode; skipped where a client is not installed."""

import subprocess
import sys

import pytest
from interrupts import stop_after

from duelenv import UserError
from duelenv.experiments import trackers
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.folder.enclosure import check_enclosed
from duelenv.experiments.running.runner import Interrupted, run
from duelenv.testing import check_tracker

RAW = {
    "name": "told",
    "env": {"id": "FeatureDuel", "num_candidates": 4, "dim": 3, "horizon": 9, "batch": 2},
    "agents": ["passive", "thompson"],
    "seeds": 2,
    "evaluate_every": 3,
    "jobs": 1,
    "backend": "sequential",
    "checkpoint_seconds": 1e9,
}
CELLS = ("passive-seeds2", "thompson-seeds2")


def interrupted_and_continued(directory, monkeypatch, tracker):
    """Thompson is stopped after 7 of its 9 rounds and, without a checkpoint, plays them all again."""
    config = RunConfig.from_dict({**RAW, "trackers": [{**tracker, "strict": True}]})
    with monkeypatch.context() as patch:
        stop_after(patch, 16)
        with pytest.raises(Interrupted):
            run(config, directory, progress=False)
    run(config, directory, progress=False)
    check_enclosed(directory)  # links that a client makes stay inside
    return directory / "trackers" / tracker["name"]


def test_tensorboard_shows_each_point_once(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard", reason="pip install 'duelenv[tensorboard]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = interrupted_and_continued(tmp_path / "run", monkeypatch, {"name": "tensorboard"})
    for cell in CELLS:
        events = EventAccumulator(str(folder / cell)).Reload()
        assert [event.step for event in events.Scalars("simple_regret")] == [0, 3, 6, 9]
        assert [event.value for event in events.Scalars("queries")] == [0.0, 6.0, 12.0, 18.0]
        assert b"FeatureDuel" in events.Tensors("config/text_summary")[0].tensor_proto.string_val[0]
    (tmp_path / "check").mkdir()
    check_tracker(lambda: trackers.make("tensorboard", {}), tmp_path / "check")


def level_db_log(content, header):
    """Records of a file in LevelDB's log format, after a header of so many bytes."""
    block, start, whole = 32_768, header, b""
    while start + 7 <= len(content):
        if block - start % block < 7:  # too little for a record: the block's rest is empty
            start += block - start % block
            continue
        length, kind = int.from_bytes(content[start + 4 : start + 6], "little"), content[start + 6]
        whole += content[start + 7 : start + 7 + length]
        start += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield whole
            whole = b""


def wandb_points(folder):
    """Runs by id, each with its name and its steps and values, out of the files that would be sent."""
    from wandb.proto import wandb_internal_pb2

    found = {}
    for path in sorted(folder.rglob("*.wandb")):
        key = None
        for data in level_db_log(path.read_bytes(), header=7):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.HasField("run"):
                key = record.run.run_id
                found.setdefault(key, (record.run.display_name, record.run.run_group, []))
            elif record.HasField("history"):
                item = {one.key or "/".join(one.nested_key): one.value_json for one in record.history.item}
                found[key][2].append((int(item["_step"]), float(item["queries"])))
    return found


def test_wandb_offline_holds_each_point_once_and_leaves_no_process(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="pip install 'duelenv[wandb]'")
    psutil = pytest.importorskip("psutil")
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    folder = interrupted_and_continued(tmp_path / "run", monkeypatch, {"name": "wandb", "project": "x"})
    runs = wandb_points(folder)
    points = [(0, 0.0), (3, 6.0), (6, 12.0), (9, 18.0)]
    assert sorted(runs.values()) == [(cell, "told", points) for cell in CELLS]
    (tmp_path / "check").mkdir()
    check_tracker(lambda: trackers.make("wandb", {}), tmp_path / "check")
    left = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    _, alive = psutil.wait_procs(left, timeout=5.0)
    assert not alive
    with pytest.raises(UserError, match="offlin"):
        trackers.make("wandb", {"mode": "offlin"})


def test_mlflow_holds_each_point_once(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="pip install 'duelenv[mlflow]'")
    folder = interrupted_and_continued(tmp_path / "run", monkeypatch, {"name": "mlflow"})
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    client = mlflow.MlflowClient(folder.as_uri())
    runs = client.search_runs([client.get_experiment_by_name("told").experiment_id])
    assert sorted(one.info.run_name for one in runs) == list(CELLS)
    for one in runs:
        points = [(point.step, point.value) for point in client.get_metric_history(one.info.run_id, "queries")]
        assert points == [(0, 0.0), (3, 6.0), (6, 12.0), (9, 18.0)]
        assert one.info.status == "FINISHED" and "FeatureDuel" in one.data.params["env"]
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE")
    (tmp_path / "check").mkdir()
    check_tracker(lambda: trackers.make("mlflow", {}), tmp_path / "check")


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_client_is_a_sentence(name):
    code = (
        "import sys\n"
        f"sys.modules[{name!r}] = None\n"
        "from duelenv.experiments import trackers\n"
        f"trackers.make({name!r}, {{}})\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = ended.stderr.strip().splitlines()[-1]
    assert last.endswith(f"the tracker {name!r} needs the package {name!r}; pip install 'duelenv[{name}]'")
