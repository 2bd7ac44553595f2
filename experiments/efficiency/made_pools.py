"""Recorded responses of the project's own making, so that everybody can confirm on a pool: sentences with a score.

A pool is made of a few settings and nothing else, and is the same on every machine: sentences of the toy grammar, drawn
by numpy, and the utility of an oracle that computes it. It stands in for real text as far as text features do: what an
agent has to find is which words are worth something.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from duelenv import oracles
from duelenv.experiments.config.settings import read_named
from duelenv.experiments.folder import files
from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.ground.randomness import stream
from duelenv.oracles.base import utility_of

__all__ = ["check_made", "made_pool"]

#: Prompts and responses to each, where the settings do not say.
_PROMPTS: Final = 120
_RESPONSES: Final = 16


def check_made(key: str, raw: Mapping[str, Any]) -> None:
    """Refuse settings that no pool can be made of.

    Args:
        key: Where they stand.
        raw: `oracle`, and perhaps `prompts`, `responses` and `seed`.

    Raises:
        UserError: One that is unknown or out of its range, or an oracle without a utility.
    """
    checks.refuse_unknown(key, raw, ("oracle", "prompts", "responses", "seed"))
    for name, low in (("prompts", 2), ("responses", 2), ("seed", 0)):
        if name in raw:
            checks.integer(f"'{key}.{name}'", raw[name], low=low)
    named = read_named(f"{key}.oracle", raw["oracle"])
    if utility_of(oracles.make(named.name, **named.settings)) is None:
        raise UserError(f"'{key}.oracle' is {named.name!r}, which has no utility to be recorded: choose one that has")


def made_pool(settings: Mapping[str, Any]) -> Path:
    """Return the file of a pool, written where it is missing: `duelenv/pools` in `$XDG_CACHE_HOME`, or in `~/.cache`.

    Args:
        settings: As `check_made` lets them pass.

    Returns:
        A Parquet file with the columns `prompt`, `response` and `utility`, a row for each response, named by what it
        holds.
    """
    columns = _columns(settings)
    key = hashlib.sha256(json.dumps(columns).encode()).hexdigest()[:16]
    path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "duelenv" / "pools" / f"{key}.parquet"
    if not path.is_file():
        import pyarrow as pa
        import pyarrow.parquet as pq

        path.parent.mkdir(parents=True, exist_ok=True)
        with files.atomic(path) as written:
            pq.write_table(pa.table(columns), written)
    return path


def _columns(settings: Mapping[str, Any]) -> dict[str, list[Any]]:
    from duelenv.policies.toy import toy_prompts, toy_responses

    seed, each = settings.get("seed", 0), settings.get("responses", _RESPONSES)
    prompts: list[str] = []
    responses: list[str] = []
    for number, prompt in enumerate(toy_prompts(settings.get("prompts", _PROMPTS), "train", seed)):
        said = toy_responses(prompt, each, stream(seed, "made pool", number))
        prompts += [prompt] * len(said)
        responses += said
    named = read_named("oracle", settings["oracle"])
    truth = utility_of(oracles.make(named.name, **named.settings))
    assert truth is not None
    return {"prompt": prompts, "response": responses, "utility": truth.utility(prompts, responses).tolist()}
