"""Several tables of recorded responses in one run: how `data` names them, and how each becomes a variant of the world.

A pool is a world of its own: every agent meets every pool in cells of their own, and is compared within the pool.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from duelenv.experiments.config.settings import AgentConfig, read_table_settings, same_agent
from duelenv.ground import checks
from duelenv.ground.errors import UserError

__all__ = ["in_pools", "named_pools", "refuse_mixed_pools"]


def named_pools(raw: object) -> dict[str, object] | None:
    """Find the pools of a `data` setting by name, each as it was given; None where it is no more than one table.

    `[a.parquet, b.parquet]` are named by their files, or by their folders where the files have the same name;
    `{a: FILE, b: {path: FILE, score: rating}}` names them itself.

    Raises:
        UserError: A list that is empty or has a file twice, or whose files cannot be told apart by name.
    """
    if isinstance(raw, Mapping):
        several = "path" not in raw and bool(raw) and all(_is_table(value) for value in raw.values())
        return {str(name): value for name, value in raw.items()} if several else None
    if not isinstance(raw, Sequence) or isinstance(raw, str):
        return None
    if not raw or not all(_is_table(value) for value in raw):
        raise UserError(f"'data' is {list(raw)!r}, expected the paths of tables: give data=[a.parquet, b.parquet]")
    paths = [Path(value if isinstance(value, str) else value["path"]) for value in raw]
    for names in ([path.stem for path in paths], [path.parent.name for path in paths]):
        usable = [re.sub(r"[^\w.+]", "_", name) for name in names]
        if len(set(usable)) == len(raw) and all(usable):
            return dict(zip(usable, raw, strict=True))
    raise UserError(
        f"'data' names {', '.join(str(path) for path in paths)}, which neither their names nor their folders tell "
        "apart: name the pools, as in data={a: FILE, b: FILE}"
    )


def _is_table(value: object) -> bool:
    """Tell whether this can be a table: a path with an ending, or a mapping with a path."""
    if isinstance(value, Mapping):
        return isinstance(value.get("path"), str)
    return isinstance(value, str) and Path(value).suffix != ""


def in_pools(data: object, variants: object) -> tuple[object, object]:
    """Write several pools out as variants of the world; what is no several pools is returned as it is.

    Args:
        data: The config's `data`.
        variants: The config's `variants`; with several pools, every pool in every variant, `POOL+VARIANT`.

    Returns:
        `data`, None where every variant has its own, and `variants`.

    Raises:
        UserError: Both name pools.
    """
    pools = named_pools(data)
    if pools is None:
        return data, variants
    tables = {name: read_table_settings(f"data.{name}", table) for name, table in pools.items()}
    given = checks.mapping("'variants'", variants)
    if not given:
        return None, {name: {"data": table} for name, table in tables.items()}
    crossed = {}
    for name, table in tables.items():
        for variant, value in given.items():
            settings = checks.mapping(f"'variants.{variant}'", value)
            if "data" in settings:
                raise UserError(f"'variants.{variant}.data' and 'data' both name pools: leave one of them out")
            crossed[f"{name}+{variant}"] = {"data": table, **settings}
    return None, crossed


def refuse_mixed_pools(agents: Sequence[AgentConfig], baseline: AgentConfig) -> None:
    """Refuse agents that cannot be compared within their pool: figures of two pools never stand side by side.

    Raises:
        UserError: A pool without the baseline's agent.
    """
    pools: dict[str, list[AgentConfig]] = {}
    for agent in agents:
        pools.setdefault(repr(agent.env.get("data")), []).append(agent)
    if len(pools) < 2:
        return
    for members in pools.values():
        if not any(same_agent(agent, baseline) for agent in members):
            raise UserError(
                f"The agent {members[0].label!r} plays on a pool of its own, where the baseline {baseline.label!r} "
                "does not play: name the pools in 'data' for all agents, as in data=[a.parquet, b.parquet]"
            )
