"""Plays an agent in the worlds that it fits, in ordinary run folders, and reads what came out.

Worlds that differ in settings of the environment alone are played in one run, each under its own name, so that all
cores have something to do. A folder is named by all that decides its results: what was interrupted goes on, and after a
change of code everything is played anew.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from duelenv.core import AgentView
from duelenv.experiments.config.contents import digest_of_modules
from duelenv.experiments.config.modules import load_modules
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.config.settings import full_id
from duelenv.experiments.config.worlds import world_class
from duelenv.experiments.efficiency.made_pools import made_pool
from duelenv.experiments.folder.environment import describe
from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.leaderboard.code import code_digest
from duelenv.experiments.leaderboard.stored import Now, Row
from duelenv.experiments.leaderboard.worlds import World
from duelenv.experiments.results.measurements import Results
from duelenv.experiments.running.failures import CellFailed, WorkerDied
from duelenv.experiments.running.runner import run
from duelenv.ground.errors import UserError

__all__ = ["Entry", "Play", "control_of", "now_of", "play", "plays_of", "refusal_of", "refused_row"]

#: What all agents of a run share, and so the worlds in it.
_SHARED_ENV: Final = ("id", "num_envs", "batch", "horizon")
#: Registers the agent that is told the utility.
_PRIVILEGED: Final = "duelenv.experiments.efficiency.privileged"


@dataclass(frozen=True)
class Entry:
    """An agent as it is entered.

    Attributes:
        name: In tables.
        agent: Registered name.
        settings: Of the agent, the same in all worlds.
        env: Settings of the world that it needs otherwise.
        modules: Files or modules that register it.
        told: Whether it is given the oracle: the control that is a ceiling, never an entrant.
    """

    name: str
    agent: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, Any] = field(default_factory=dict)
    modules: tuple[str, ...] = ()
    told: bool = False


@dataclass(frozen=True)
class Play:
    """One run: an entry in worlds that can be played together.

    Attributes:
        entry: The agent.
        worlds: Labels of the run are their names.
        config: The run.
        folder: Name of its folder.
    """

    entry: Entry
    worlds: tuple[World, ...]
    config: RunConfig
    folder: str


def control_of(world: World) -> Entry | None:
    """Find the agent that measures a world's ceiling, or None where the ceiling is known."""
    if world.ceiling.agent is None:
        return None
    settings = dict(world.ceiling.agent)
    name = settings.pop("name")
    return Entry(name, name, settings, modules=(_PRIVILEGED,), told=True)


def now_of(entry: Entry, world: World) -> Now:
    """Tell where a row of today would come from.

    Raises:
        UserError: No such agent.
    """
    from duelenv.agents.base import AGENTS
    from duelenv.oracles.base import ORACLES

    load_modules(entry.modules)
    roots = [AGENTS[entry.agent].__module__, world_class(full_id(world.env["id"])).__module__]
    if "policy" in world.shared:
        roots.append("duelenv.policies.toy")
    named = world.shared.get("oracle") or (world.pool or {}).get("oracle")
    if named is not None:
        name = named if isinstance(named, str) else named["name"]
        roots.append(ORACLES[name].__module__)
    own = [digest_of_modules(entry.modules)] if entry.modules else []
    given = [dict(entry.settings), dict(entry.env)] if entry.settings or entry.env else []
    code = code_digest(roots)
    if own or given:
        code = hashlib.sha256(json.dumps([code, own, given], sort_keys=True, default=str).encode()).hexdigest()[:12]
    return Now(world.digest(entry.agent), importlib.metadata.version("duelenv"), code)


def refusal_of(entry: Entry, world: World) -> str | None:
    """Say why an agent does not fit a world, or None if it does; nothing is played."""
    from duelenv import agents

    load_modules(entry.modules)
    raw = _raw([world], entry, [world.first_seed])
    mine = raw["agents"][world.name]
    settings = {key: value for key, value in mine.items() if key not in ("name", "env")}
    # An environment is made once for all agents that meet the same.
    bare = {**raw, "name": "view", "modules": [], "agents": {world.name: {"name": "random", "env": mine["env"]}}}
    try:
        agents.make(entry.agent, _view(json.dumps(bare, default=str)), world.first_seed, **settings)
    except UserError as refused:
        return str(refused)
    return None


@lru_cache(maxsize=16)
def _view(raw: str) -> AgentView:
    """Say what an agent may know of the environment of a run with one label."""
    from duelenv.experiments.running import assembly
    from duelenv.experiments.running.start_policy import start_policy

    config = RunConfig.from_dict(json.loads(raw))
    own = config.for_agent(config.agents[0].label)
    view: AgentView = assembly.make_environment(own, policy=start_policy(own)).unwrapped.view()
    return view


def plays_of(entry: Entry, worlds: Sequence[World], jobs: int | None = None) -> Iterator[Play]:
    """Find the runs in which an entry plays worlds that it fits.

    Args:
        entry: The agent.
        worlds: That it fits, see `refusal_of`.
        jobs: Cells that run at the same time.
    """
    together: dict[str, list[World]] = {}
    for world in worlds:
        common = {key: world.env[key] for key in _SHARED_ENV if key in world.env}
        key = json.dumps([world.group, world.shared, common, world.first_seed, world.seeds], sort_keys=True)
        together.setdefault(key, []).append(world)
    for members in together.values():
        first = members[0]
        raw = _raw(members, entry, range(first.first_seed, first.first_seed + first.seeds))
        config = RunConfig.from_dict(raw if jobs is None else {**raw, "jobs": jobs})
        made = [[world.name, vars(now_of(entry, world))] for world in members]
        digest = hashlib.sha256(json.dumps(made).encode()).hexdigest()[:10]
        yield Play(entry, tuple(members), config, f"{first.group}/{entry.name}-{digest}")


def play(one: Play, root: Path, *, progress: bool | None = None) -> tuple[list[Row], str | None]:
    """Play what is not finished of a run, and read what came out.

    Args:
        one: The run.
        root: Where run folders lie.
        progress: As for `duelenv.experiments.running.runner.run`.

    Returns:
        Rows of the worlds that are finished; and why others are not, None where all are.
    """
    folder, failed = root / one.folder, None
    try:
        run(one.config, folder, progress=progress)
    except (CellFailed, WorkerDied) as error:
        failed = str(error)
    if not RunFolder(folder).results.is_file():
        return [], failed
    results, rows = Results(folder), []
    described = describe(with_torch=False)
    for world in one.worlds:
        found = results.final(world.name, world.metric) if world.name in results.agents else {}
        seeds = range(world.first_seed, world.first_seed + world.seeds)
        if all(seed in found for seed in seeds):
            rows.append(
                Row(
                    agent=one.entry.name,
                    world=world.name,
                    values=tuple(found[seed] for seed in seeds),
                    refused=None,
                    first_seed=world.first_seed,
                    made=now_of(one.entry, world),
                    date=described["started"][:10],
                    processor=described["processor"],
                    seconds=_seconds(results, world.name, replicated=one.config.replicated),
                )
            )
        elif failed is None:
            failed = f"{one.entry.name!r} has no {world.metric!r} of every seed in {world.name!r}"
    return rows, failed


def refused_row(entry: Entry, world: World, why: str) -> Row:
    """Make a row that says why an agent does not fit."""
    today = time.strftime("%Y-%m-%d", time.gmtime())
    return Row(entry.name, world.name, (), why, 0, now_of(entry, world), today, "", 0.0)


def _seconds(results: Results, label: str, *, replicated: bool) -> float:
    """Of all rounds of a world; replicates are played together, and each tells the time of all."""
    times = list(results.final(label, "seconds").values())
    return float(max(times) if replicated else sum(times))


def _raw(worlds: Sequence[World], entry: Entry, seeds: Sequence[int]) -> dict[str, Any]:
    """Make the setting of a run with a label for each world."""
    first = worlds[0]
    settings = {**first.settings, **entry.settings}
    if entry.told:
        settings["oracle"] = first.shared["oracle"]
    agents: dict[str, Any] = {}
    for world in worlds:
        env = {key: value for key, value in world.env.items() if key not in _SHARED_ENV}
        env |= {**world.needs.get(entry.agent, {}), **entry.env}
        if world.pool is not None:
            env["data"] = {"path": str(made_pool(world.pool))}
        agents[world.name] = {"name": entry.agent, **settings, "env": env}
    return {
        **first.shared,
        "name": f"{entry.name}-{first.group}",
        "env": {key: first.env[key] for key in _SHARED_ENV if key in first.env},
        "agents": agents,
        "baseline": first.name,
        "seeds": list(seeds),
        "modules": list(entry.modules),
        "save_models": "none",
        "label_log": False,
        "examples": 0,
    }
