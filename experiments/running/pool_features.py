"""Features of a pool's responses by a function of the user's, made once and kept on the disk for all cells and runs.

They are known by the texts and by the code that made them, so that another pool or a changed function is never taken
for them. What the code loads itself (a model's weights, an installed package) is not looked at.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duelenv.data import Pool
from duelenv.data.loading import pool_of
from duelenv.experiments.config.contents import digest_of_function
from duelenv.experiments.config.modules import load_function
from duelenv.experiments.folder import files
from duelenv.ground.errors import UserError
from duelenv.worlds.pool_duel.inputs import encoded

__all__ = ["features_folder", "kept_features"]


def features_folder() -> Path:
    """Find where features are kept: `duelenv/features` in `$XDG_CACHE_HOME`, or in `~/.cache`. It may be deleted."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "duelenv" / "features"


def kept_features(module: str, function: str, data: Any) -> NDArray[np.float32]:
    """Return the features of a pool's responses by a function, float32 [P, K, d]; called where none are kept.

    Args:
        module: Dotted name, or path of a Python file.
        function: Its name there; see `duelenv.worlds.encoders.Encoder`.
        data: The pool, as `duelenv.data.loading.pool_of` takes it.

    Raises:
        UserError: No pool, no such function, or one that returns no features; or the disk refuses.
    """
    if data is None:
        raise UserError(f"'env.features' names the function {function!r} of recorded responses: set 'data' too")
    encoder = load_function(module, function, "env.features")
    pool = pool_of(data)
    path = features_folder() / f"{_digest_of(pool, digest_of_function(module, function))}.npy"
    features = _kept(path)
    if features is None or features.shape[:2] != pool.responses.shape:
        features = encoded(pool, encoder)
        with files.atomic(path) as stream:
            np.save(stream, features)
    return features


def _kept(path: Path) -> NDArray[np.float32] | None:
    """Read features on the disk; None where there are none, or a damaged file: they are made again."""
    try:
        features = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return features if features.dtype == np.float32 and features.ndim == 3 else None


def _digest_of(pool: Pool, code: str) -> str:
    texts = [code, list(pool.prompts), pool.responses.tolist()]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()
