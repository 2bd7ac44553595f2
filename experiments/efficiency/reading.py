"""A study as it is written, made into a `Study`: checked setting by setting, lists of rules as a cell for each pair."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from typing import Any, Final

from duelenv.experiments.config.places import misplaced
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.config.settings import read_name, read_table_settings
from duelenv.experiments.efficiency.made_pools import check_made
from duelenv.experiments.efficiency.study import COMPOSED, NOTHING_ELSE, PASSIVE, Cell, Regime, SeedRange, Study, World
from duelenv.experiments.results.metrics import check_name
from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.oracles.services.secrets import refuse_secrets

__all__ = ["DECIDED", "DRAWING", "KINDS_OF_WORLDS", "LOOKS", "PARTS", "read_study"]

#: Stages that draw seeds, and what may draw besides: a second look at the best trials, and one at all of `passive`'s.
DRAWING: Final = ("tune", "screen", "confirm")
LOOKS: Final = ("race", "baseline")
#: What a composed agent is made of, as a cell names it.
PARTS: Final = ("ask", "teach", "belief")
KINDS_OF_WORLDS: Final = ("development", "held_out", "negative", "further")
#: How many rounds there are, and of how many labels each.
_ROUNDS: Final = ("horizon", "num_envs", "batch")
#: Settings of a run that a study decides, and what it has in their place.
DECIDED: Final = {
    "name": "'study'",
    "agents": "'cells'",
    "variants": "'cells'",
    "baseline": f"{PASSIVE!r}",
    "metric": "'metric'",
    **dict.fromkeys(("seeds", "first_seed"), "'seeds'"),
    "evaluate_every": "'regimes.NAME.every'",
    "horizon": "'regimes.NAME.labels'",
    **dict.fromkeys(("num_envs", "batch"), "'regimes.NAME.per_round'"),
    **dict.fromkeys(("save_models", "label_log", "examples"), "nothing"),
}
#: The world of recorded responses, and what is to be reached there.
_POOL: Final = {"policy": None, "prompts": None, "env": {"id": "duelenv/PoolDuel-v0"}}
_POOL_METRIC: Final = "simple_regret"


def read_study(raw: Mapping[str, Any]) -> Study:
    """Check a plain mapping and make the study.

    A world, regime, cell or control that is null is left out, so that an override can drop it.

    Args:
        raw: Parsed YAML.

    Raises:
        UserError: The first setting that is unknown, missing or of the wrong kind.
    """
    known = [
        *("study", "base", "regimes", "cells", "controls", "tuning", "seeds", *KINDS_OF_WORLDS),
        *("pools", "metric", "share", "finalists", "carried", "growth", "null_trials", "jobs"),
    ]
    for key in raw:
        if key not in known:
            raise UserError(f"Unknown setting {key!r}: {_place_of(key, raw, known)}")
    refuse_secrets(raw)
    for key in ("base", "development", "held_out", "regimes", "cells", "tuning", "seeds"):
        if not raw.get(key):
            raise UserError(f"The study has no {key!r}: add it at the top level")
    regimes = tuple(
        Regime(name, **_exactly(f"regimes.{name}", value, ("per_round", "labels", "every"), ("most",)))
        for name, value in _present("regimes", raw["regimes"])
    )
    names = tuple(checks.mapping("'regimes'", raw["regimes"]))  # those too that are not played: cells may name them
    tuning = {
        key: tuple(values) if isinstance(values, list) and values else _refuse_values(key, values)
        for key, values in checks.mapping("'tuning'", raw["tuning"]).items()
    }
    chosen: dict[str, Any] = {}
    if "metric" in raw:
        chosen["metric"] = checks.text("'metric'", raw["metric"])
    if "share" in raw:
        chosen["share"] = checks.number("'share'", raw["share"], above=0.0, below=1.0)
    for key, low in (("finalists", 1), ("carried", 1), ("growth", 0), ("null_trials", 1), ("jobs", 1)):
        if raw.get(key) is not None:
            chosen[key] = checks.integer(f"'{key}'", raw[key], low=low)
    return Study(
        name=read_name(raw["study"], "study"),
        base=_changes("base", raw["base"]),
        worlds=_worlds(raw),
        regimes=regimes,
        cells=_distinct(
            _cell("cells", label, own, names, tuning)
            for name, value in _present("cells", raw["cells"])
            for label, own in _products(name, checks.mapping(f"'cells.{name}'", value))
        ),
        controls=tuple(
            _cell("controls", name, value, names, tuning) for name, value in _present("controls", raw.get("controls"))
        ),
        tuning=tuning,
        seeds=_seeds(raw["seeds"]),
        resolved=raw,
        **chosen,
    )


def _present(key: str, raw: object) -> list[tuple[str, Any]]:
    # Folders have these names.
    return [
        (check_name(name, f"What stands in {key!r}"), value)
        for name, value in checks.mapping(f"'{key}'", raw).items()
        if value is not None
    ]


def _worlds(raw: Mapping[str, Any]) -> tuple[World, ...]:
    """Read all worlds, pools last.

    Raises:
        UserError: Two have one name.
    """
    found = [_world(kind, name, value) for kind in KINDS_OF_WORLDS for name, value in _present(kind, raw.get(kind))]
    found += [_pool(name, value) for name, value in _present("pools", raw.get("pools"))]
    names = [world.name for world in found]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"Two worlds are named {name!r}: rename one")
    return tuple(found)


def _world(kind: str, name: str, raw: object) -> World:
    settings = checks.mapping(f"'{kind}.{name}'", raw)
    metric = settings.pop("metric", None)
    return World(
        name,
        kind,
        _changes(f"{kind}.{name}", settings),
        None if metric is None else checks.text(f"'{kind}.{name}.metric'", metric),
    )


def _place_of(key: object, raw: Mapping[str, Any], known: Iterable[str]) -> str:
    """Write the tail of a sentence about a key that a study has not at the top."""
    if key in DECIDED:
        return f"a study has {DECIDED[str(key)]} in its place"
    base = raw.get("base")
    own = [item.name for item in dataclasses.fields(RunConfig)]
    return misplaced(key, base if isinstance(base, Mapping) else {}, known, within="base", also=own)


def _changes(key: str, raw: object) -> dict[str, Any]:
    """Read settings of a run, none of which a study decides itself."""
    given = checks.mapping(f"'{key}'", raw)
    _refuse_decided(key, given)
    env = given.get("env")
    _refuse_decided(f"{key}.env", [name for name in _ROUNDS if isinstance(env, Mapping) and name in env])
    return given


def _refuse_decided(key: str, names: Iterable[str]) -> None:
    """Refuse what a study decides itself.

    Raises:
        UserError: It is among these settings, and would be passed over or break the study.
    """
    for name in names:
        if name in DECIDED:
            place = DECIDED[name]
            raise UserError(f"'{key}.{name}' is not a setting of a study, which has {place} in its place; leave it out")


def _pool(name: str, raw: object) -> World:
    """Read `FILE` or `{path: FILE, ...}`, as `data` of a run; or what the project makes a pool of, `{oracle: ...}`."""
    if isinstance(raw, Mapping) and "oracle" in raw:
        check_made(f"pools.{name}", raw)
        return World(name, "further", _POOL, _POOL_METRIC, made=dict(raw))
    return World(name, "further", {**_POOL, "data": read_table_settings(f"pools.{name}", raw)}, _POOL_METRIC)


def _exactly(key: str, raw: object, names: tuple[str, ...], others: tuple[str, ...] = ()) -> dict[str, Any]:
    """Check a mapping for all of `names`, and `others` where they are given."""
    given = checks.mapping(f"'{key}'", raw, of=", ".join((*names, *others)))
    checks.refuse_unknown(key, given, (*names, *others))
    for name in names:
        if name not in given:
            raise UserError(f"'{key}' has no {name!r}: add it")
    return given


def _refuse_values(key: str, values: object) -> tuple[Any, ...]:
    raise UserError(f"'tuning.{key}' is {values!r}, expected a list of the values that are tried")


def _cell(key: str, name: str, raw: object, regimes: tuple[str, ...], tuning: Mapping[str, Any]) -> Cell:
    settings = checks.mapping(f"'{key}.{name}'", raw)
    if name == PASSIVE:
        raise UserError(f"'{key}' has an agent {PASSIVE!r}, which every study has already: leave it out or rename it")
    agent = checks.text(f"'{key}.{name}.name'", settings.pop("name", COMPOSED))
    ask, teach, belief = (_part(f"{key}.{name}", part, settings.pop(part, None)) for part in PARTS)
    env = checks.mapping(f"'{key}.{name}.env'", settings.pop("env", None))
    _refuse_decided(f"{key}.{name}.env", {"horizon"} & env.keys())
    within = settings.pop("regimes", list(regimes))
    for regime in within if isinstance(within, list) else [within]:
        checks.one_of(f"{key}.{name}.regimes", regime, regimes)
    for setting in tuning:
        if any(setting in part for part in (ask, teach, belief, settings)):
            raise UserError(f"'{key}.{name}.{setting}' is tuned for every agent alike: leave it out here")
    return Cell(name, agent, ask, teach, belief, settings, env, tuple(within if isinstance(within, list) else [within]))


def _products(name: str, raw: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Make one cell for each combination of lists of rules, named by the rules: `{ask: [extreme, infomax]}`."""
    lists = {part: raw[part] for part in PARTS if isinstance(raw.get(part), list)}
    if not lists:
        return [(name, dict(raw))]
    found = []
    for rules in itertools.product(*lists.values()):
        names = [rule["name"] if isinstance(rule, Mapping) else str(rule) for rule in rules]
        found.append(("-".join([name, *names]), {**raw, **dict(zip(lists, rules, strict=True))}))
    return found


def _distinct(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """Check that the cells, whose names came from lists too, are distinct.

    Raises:
        UserError: Two have one name.
    """
    found: dict[str, Cell] = {}
    for cell in cells:
        if cell.name in found:
            raise UserError(f"'cells' holds two cells named {cell.name!r}: rename one")
        found[cell.name] = cell
    return tuple(found.values())


def _part(key: str, part: str, raw: object) -> dict[str, Any]:
    """Read `best_worst`, or `{name: best_worst, target: mean}`, as an agent's settings: `{teach: best_worst, ...}`."""
    given = {"name": raw} if isinstance(raw, str) else checks.mapping(f"'{key}.{part}'", raw)
    if not given or (part == "teach" and given == {"name": NOTHING_ELSE}):
        return {}
    if "name" not in given:
        raise UserError(f"'{key}.{part}' has no 'name': add that of a registered rule")
    return {part: checks.text(f"'{key}.{part}.name'", given.pop("name")), **given}


def _seeds(raw: object) -> dict[str, SeedRange]:
    given = _exactly("seeds", raw, DRAWING, LOOKS)
    found = {}
    for stage in given:
        own = _exactly(f"seeds.{stage}", given[stage], tuple(item.name for item in dataclasses.fields(SeedRange)))
        low = 1 if stage in ("tune", *LOOKS) else 2
        found[stage] = SeedRange(
            checks.integer(f"'seeds.{stage}.count'", own["count"], low=low),
            checks.integer(f"'seeds.{stage}.first'", own["first"], low=0),
        )
    for one, other in itertools.combinations(found, 2):
        shared = set(found[one].values) & set(found[other].values)
        if shared:
            raise UserError(
                f"'seeds.{one}' and 'seeds.{other}' share the seed {min(shared)}, expected fresh ones in every stage: "
                "change one 'first'"
            )
    return found
