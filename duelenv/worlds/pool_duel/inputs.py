"""What PoolDuel is made of: a pool, read from a table where a path is given, and features of its responses."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from duelenv.data import Pool
from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.text_features import TextFeatures
from duelenv.worlds.encoders import Encoder

_TEXT_DIM = 64


@functools.lru_cache(maxsize=2)
def _text_features(pool: Pool, dim: int) -> NDArray[np.float32]:
    features = TextFeatures(dim)(pool.prompts, pool.responses)
    features.flags.writeable = False
    return features


Features = ArrayLike | str | Path | Encoder | None
"""What features of a pool's responses may be given as."""


@functools.lru_cache(maxsize=2)
def encoded(pool: Pool, encoder: Encoder) -> NDArray[np.float32]:
    """Return what a function says of a pool's responses, [P, K, d]; it is called once, with every text once.

    Args:
        pool: The responses.
        encoder: See `Encoder`; the last results are kept.

    Raises:
        UserError: What it returns is not one line of finite numbers for each response.
    """
    asked = [(pool.prompts[place // pool.num_responses], text) for place, text in enumerate(pool.responses.ravel())]
    places = {pair: place for place, pair in enumerate(dict.fromkeys(asked))}
    name = getattr(encoder, "__name__", "the encoder")
    answer = np.asarray(encoder([prompt for prompt, _ in places], [response for _, response in places]))
    if answer.dtype.kind not in "fiu" or answer.ndim != 2 or len(answer) != len(places):
        raise UserError(
            f"{name} returned {answer.dtype} of shape {answer.shape} for {len(places)} prompts and responses, expected "
            f"numbers of shape ({len(places)}, d); return a line for each response"
        )
    if not np.isfinite(answer).all():
        row, column = np.argwhere(~np.isfinite(answer))[0].tolist()
        raise UserError(
            f"{name} returned {answer[row, column]} for response {row} of those it was given, expected finite numbers"
        )
    features = answer[[places[pair] for pair in asked]].reshape(*pool.responses.shape, -1).astype(np.float32)
    features.flags.writeable = False
    return features


def features_of(pool: Pool, features: Features, dim: int | None) -> NDArray[np.float32]:
    """Return the features of a pool's responses, float32 [P, K, d]; those made of its texts alone are kept too.

    Args:
        pool: The responses.
        features: None for features of the texts; or an array, or the path of a .npy file, [P, K, d], or with one line
            for each row of the table, [rows, d]; or a function, see `Encoder`.
        dim: Number of features d. None is 64 for features of the texts and takes given ones as they are; with both,
            d features are made of the texts' style and the given ones' components.

    Raises:
        UserError: Features of another shape or with NaN, or a number out of range.
    """
    if dim is not None:
        checks.integer("dim", dim, low=1)
    if features is None:
        return _text_features(pool, _TEXT_DIM if dim is None else dim)
    given = _given_features(pool, features)
    return given if dim is None else TextFeatures(dim)(pool.prompts, pool.responses, given)


def _given_features(pool: Pool, features: ArrayLike | str | Path | Encoder) -> NDArray[np.float32]:
    name = "features"
    if callable(features):
        features = encoded(pool, features)
    if isinstance(features, (str, Path)):
        name = str(features)
        try:
            features = np.load(features, allow_pickle=False)
        except FileNotFoundError:
            raise UserError(f"{name} does not exist; give the path of a .npy file") from None
        except ValueError:  # NumPy would rather unpickle it, which runs what is in it
            code = Path(name).suffix == ".py"
            what = f"name the function in it, as {name}:embed" if code else "write numbers with numpy.save"
            raise UserError(f"{name} is no .npy file of numbers; {what}") from None
        except OSError as error:
            raise UserError(f"{name} cannot be read ({error.strerror or error}); give a .npy file") from None
    values = np.asarray(features)
    shape = pool.responses.shape
    if values.dtype.kind not in "fiu" or not (
        (values.ndim == 3 and values.shape[:2] == shape) or (values.ndim == 2 and len(values) == pool.num_rows)
    ):
        raise UserError(
            f"{name} is {values.dtype} of shape {values.shape}, expected numbers of shape "
            f"({shape[0]}, {shape[1]}, d), or ({pool.num_rows}, d) with a line for each row of the "
            "table"
        )
    if values.ndim == 2:
        values = values[pool.rows]
    if not values.shape[2]:
        raise UserError(f"{name} has 0 features for each response; give at least one")
    values = values.astype(np.float32)
    if not np.isfinite(values).all():
        place = np.argwhere(~np.isfinite(values))[0].tolist()
        raise UserError(
            f"{name} holds {values[tuple(place)]} for response {place[1]} of prompt {place[0]}, "
            "expected finite numbers; replace it"
        )
    return values
