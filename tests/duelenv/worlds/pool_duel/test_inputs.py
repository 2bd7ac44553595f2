"""What PoolDuel is made of: tables and features, and one sentence for what does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pools import FEATURES, POOL, PROMPTS, RESPONSES, make, play

from duelenv import UserError
from duelenv.data import Pool


def write_table(path: Path) -> Path:
    rows = [
        {"prompt": POOL.prompts[p], "response": POOL.responses[p, k], "score": POOL.utilities[p, k]}
        for k in range(RESPONSES)
        for p in range(PROMPTS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_path_a_mapping_and_a_pool_give_the_same_world(tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.jsonl")
    by_row = FEATURES.transpose(1, 0, 2).reshape(-1, 3)  # the table runs over prompts first
    np.save(tmp_path / "f.npy", by_row)
    expected = play(make(), 5)
    for data, features in ((path, by_row), (str(path), tmp_path / "f.npy"), ({"path": path}, FEATURES)):
        for (a, labels, _), (b, relabelled, _) in zip(
            expected, play(make(data=data, features=features), 5), strict=True
        ):
            np.testing.assert_array_equal(a["features"], b["features"])
            assert a["responses"].tolist() == b["responses"].tolist()
            np.testing.assert_array_equal(labels, relabelled)


def test_rows_in_memory_are_a_table_too(tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert make(data=rows).pool.responses.tolist() == make(data=path).pool.responses.tolist()


def test_settings_of_the_table_reach_the_importer_and_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.jsonl")
    halved = make(data={"path": path, "temperature": 2.0})
    np.testing.assert_allclose(halved.pool.utilities, POOL.utilities / 2)
    assert make(data=path).pool is make(data=path).pool
    path.write_text("\n".join(path.read_text().splitlines()[: 4 * PROMPTS]))
    assert make(data=path, features=None, dim=3).pool.num_responses == 4


def test_features_are_made_of_texts_alone_or_with_the_given_ones() -> None:
    plain, mixed = make(features=None), make(dim=70)
    assert plain.reset(seed=0)[0]["features"].shape == (8, RESPONSES, 64)
    assert mixed.reset(seed=0)[0]["features"].shape == (8, RESPONSES, 70)
    other_scores = make(data=Pool(POOL.prompts, POOL.responses, -POOL.utilities), features=None)
    np.testing.assert_array_equal(other_scores.reset(seed=0)[0]["features"], plain.reset(seed=0)[0]["features"])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"features": FEATURES[:5]}, "shape (5, 5, 3), expected numbers of shape (40, 5, d), or (200, d)"),
        ({"features": FEATURES[:, :, :0]}, "0 features"),
        ({"features": np.where(FEATURES == FEATURES[2, 1, 0], np.nan, FEATURES)}, "nan for response 1 of prompt 2"),
        ({"features": FEATURES.astype(str)}, "expected numbers"),
        ({"features": "missing.npy"}, "missing.npy does not exist"),
        ({"dim": 0}, "dim is 0"),
        ({"data": 7}, "the data are a int"),
        ({"data": "missing.parquet"}, "missing.parquet does not exist"),
        ({"data": {"score": "s"}}, "names no file"),
        ({"data": {"path": "missing.parquet", "score": ["s"]}}, "data setting 'score' is ['s']"),
    ],
)
def test_wrong_input_gets_one_sentence(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        make(**settings)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_no_array_gets_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "f.npy").write_bytes(b"text")
    np.save(tmp_path / "objects.npy", np.array([{}, None]), allow_pickle=True)
    for name in ("f.npy", "objects.npy"):
        with pytest.raises(UserError, match=rf"{name} is no .npy file of numbers; write numbers with numpy.save$"):
            make(features=tmp_path / name)
    (tmp_path / "encoder.py").write_text("def embed(prompts, responses): ...\n")
    with pytest.raises(UserError, match=r"name the function in it, as \S*encoder.py:embed$"):
        make(features=tmp_path / "encoder.py")
    with pytest.raises(UserError, match=r"cannot be read \(Is a directory\); give a .npy file"):
        make(features=tmp_path)


# Encoders ------------------------------------------------------------------------------------------------------------


def test_an_encoder_is_called_once_with_every_text_once_and_its_lines_find_their_responses() -> None:
    calls: list[list[tuple[str, str]]] = []

    def length(prompts: list[str], responses: list[str]) -> np.ndarray:
        calls.append(list(zip(prompts, responses, strict=True)))
        return np.array([[len(prompt), len(response)] for prompt, response in calls[-1]])

    responses = POOL.responses.copy()
    responses[0, :3] = "the same"  # three times to the first prompt, once to another
    responses[1, 2] = "the same"
    pool = Pool(POOL.prompts, responses, POOL.utilities)
    envs = [make(data=pool, features=length) for _ in range(2)]
    ((asked,),) = [calls]
    assert len(asked) == len(set(asked)) == PROMPTS * RESPONSES - 2
    observation, _ = envs[1].reset(seed=0)
    expected = [[[len(p), len(text)] for text in row] for p, row in zip(*map(observation.get, TEXTS), strict=True)]
    np.testing.assert_array_equal(observation["features"], expected)


TEXTS = ("prompt", "responses")


def test_an_encoder_goes_with_style_features_where_a_number_is_given() -> None:
    def first_half(prompts: list[str], responses: list[str]) -> np.ndarray:
        return np.random.default_rng(0).normal(size=(len(responses), 3))

    by_hand = first_half([], [text for row in POOL.responses for text in row]).reshape(PROMPTS, RESPONSES, 3)
    expected = make(features=by_hand, dim=60).reset(seed=0)[0]["features"]
    np.testing.assert_allclose(make(features=first_half, dim=60).reset(seed=0)[0]["features"], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (np.zeros((3, 2)), "returned float64 of shape (3, 2) for 200 prompts and responses, expected numbers of shape"),
        (np.zeros(200), "of shape (200,)"),
        ([["a"]] * 200, "expected numbers"),
        (np.where(np.arange(400) == 7, np.nan, 0.0).reshape(200, 2), "returned nan for response 3"),
        (np.zeros((200, 0)), "0 features"),
    ],
)
def test_an_encoder_that_returns_no_features_gets_one_sentence(answer: Any, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        make(features=lambda prompts, responses: answer)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)
