"""The labels of a run as TRL reads them: prompt, chosen and rejected, and nothing that it would take wrong."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from duelenv import UserError
from duelenv.experiments.commands.cli import main
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.results.labels import trl_preferences_of
from duelenv.experiments.running.runner import run

TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def duels(*labels):
    rows = [
        {"prompt": f"p{k}", "first": "a", "second": "b", "label": label, "win": 0.9, "tie": 0.0}
        for k, label in enumerate(labels)
    ]
    return pa.Table.from_pylist([row | {"agent": "passive", "seed": 0, "step": 1} for row in rows])


def test_pairs_are_three_columns_without_ties_and_margins():
    table = trl_preferences_of(duels(1.0, 0.5, 0.0, None), chat=False)
    assert table.to_pylist() == [
        {"prompt": "p0", "chosen": "a", "rejected": "b"},
        {"prompt": "p2", "chosen": "b", "rejected": "a"},
    ]
    with pytest.raises(UserError, match="ties, all of them"):
        trl_preferences_of(duels(0.5, 0.5), chat=False)


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "chat"])
def played(request, tmp_path_factory):
    """A run of a policy, chatted with or not, and its folder."""
    from duelenv.policies import tiny_model

    folder = tmp_path_factory.mktemp("run")
    model, tokenizer = tiny_model("llama")
    tokenizer.chat_template = TEMPLATE
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    raw = {
        "name": "pairs",
        "env": {"id": "AlignmentDuel", "num_envs": 4, "num_candidates": 3, "horizon": 3},
        "policy": {"path": str(folder / "model"), "max_new_tokens": 6, "chat_template": request.param},
        "prompts": {"toy": {"train": 6, "test": 2}},
        "oracle": "length",
        "agents": ["passive"],
        "jobs": 1,
    }
    run(RunConfig.from_dict(raw), folder / "run")
    return folder, request.param


@pytest.mark.parametrize("ending", ["jsonl", "parquet", "csv"])
def test_the_command_writes_them_as_messages_where_the_policy_is_chatted_with(played, ending, tmp_path, capsys):
    folder, chat = played
    path = tmp_path / f"pairs.{ending}"
    code = main(["labels", str(folder / "run"), "--trl", "--export", str(path)])
    if chat and ending == "csv":
        assert code == 2 and "is to hold messages, which CSV cannot" in capsys.readouterr().err
        assert not path.exists()
        return
    assert code == 0
    if ending == "csv":
        assert path.read_text().startswith('"prompt","chosen","rejected"')
        return
    lines = path.read_text().splitlines() if ending == "jsonl" else []
    rows = [json.loads(line) for line in lines] or pq.read_table(path).to_pylist()
    assert 0 < len(rows) <= 12 and set(rows[0]) == {"prompt", "chosen", "rejected"}
    if chat:
        ((asker,), (winner,)) = rows[0]["prompt"], rows[0]["chosen"]
        assert (asker["role"], winner["role"]) == ("user", "assistant")
        assert isinstance(winner["content"], str)
    else:
        assert all(isinstance(text, str) for text in rows[0].values())


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--trl"], "'--trl' says what is exported"),
        (["--trl", "--pairs", "--export", "x.jsonl"], "leave one of them out"),
    ],
)
def test_a_wrong_command_is_one_sentence(played, words, named, capsys):
    assert main(["labels", str(played[0] / "run"), *words]) == 2
    assert named in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_trl_trains_on_them(played, ending, tmp_path):
    """`datasets` loads the file, and TRL's DPO trainer learns what was chosen."""
    trl, datasets = pytest.importorskip("trl"), pytest.importorskip("datasets")
    folder, _ = played
    path = tmp_path / f"pairs.{ending}"
    assert main(["labels", str(folder / "run"), "--trl", "--export", str(path)]) == 0
    kind = "json" if ending == "jsonl" else "parquet"
    table = datasets.load_dataset(kind, data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    arguments = trl.DPOConfig(
        output_dir=str(tmp_path / "out"),
        per_device_train_batch_size=4,
        max_steps=8,
        learning_rate=1e-2,
        logging_steps=1,
        report_to=[],
        use_cpu=True,
        seed=0,
    )
    trainer = trl.DPOTrainer(model=str(folder / "model"), args=arguments, train_dataset=table)
    trainer.train()
    margins = [entry["rewards/margins"] for entry in trainer.state.log_history if "rewards/margins" in entry]
    assert margins[-1] > margins[0] == pytest.approx(0.0, abs=1e-5)
