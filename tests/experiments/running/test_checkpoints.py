"""Checkpoints give back what went in, without pickle, and files are whole or absent."""

import zipfile

import numpy as np
import pytest
import torch

from duelenv.experiments.running import checkpoints


def same(a, b):
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    elif isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    elif isinstance(a, float) and np.isnan(a):
        assert np.isnan(b)
    else:
        assert a == b


def test_round_trip(tmp_path):
    generator = np.random.default_rng(5)
    generator.normal(size=3)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    state = {
        "none": None,
        "flag": True,
        "third": 1 / 3,
        "nan": float("nan"),
        "large": 2**100,
        "text": "ä\n",
        "nested": [(1, "a", {}), [], {"array": np.arange(6.0).reshape(2, 3)}],
        "keys": {1: "one", ("a", 2): "pair"},
        "texts": np.array([["a", "b"], ["c", ""]], dtype=object),
        "scalar": np.float32(0.1),
        "zero": np.array(3),
        "empty": np.zeros((0, 2), dtype=np.int8),
        "generator": generator.bit_generator.state,
        "model": dict(model.state_dict()),
        "optimizer": optimizer.state_dict(),
        "half": torch.randn(3, 2, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16),
        "random": torch.get_rng_state(),
        "raw": b"\x00\xff",
        "array": {"array": "a0"},
    }
    path = tmp_path / "deep" / "state.npz"
    checkpoints.save(path, state)
    same(checkpoints.load(path), state)


def test_the_file_holds_no_pickle(tmp_path):
    path = tmp_path / "state.npz"
    checkpoints.save(path, {"texts": np.array(["a"], dtype=object), "x": [1, None]})
    with np.load(path, allow_pickle=False) as archive:
        assert all(archive[name].dtype != object for name in archive.files)
    assert all(name.endswith(".npy") for name in zipfile.ZipFile(path).namelist())


def test_what_cannot_be_kept_is_named(tmp_path):
    with pytest.raises(TypeError, match=r"state\['a'\]\[1\] is a set"):
        checkpoints.save(tmp_path / "x.npz", {"a": [1, {2}]})
    assert list(tmp_path.iterdir()) == []
