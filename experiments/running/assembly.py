"""Makes what a `RunConfig` describes: policy, oracle, prompts, environment and agents. No loop and no files here.

Everything heavy is imported inside the functions, in the process that runs the cell.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from duelenv.experiments.config.contents import function_named
from duelenv.experiments.config.modules import load_function
from duelenv.experiments.config.prompt_sources import prompts_from
from duelenv.experiments.config.run_config import SHORTHANDS, RunConfig
from duelenv.experiments.config.worlds import ELSEWHERE, make_matrix, parameters_of, world_class
from duelenv.experiments.running.pool_features import kept_features
from duelenv.ground.checks import choices, integer
from duelenv.ground.errors import UserError
from duelenv.oracles.services.home import Home
from duelenv.policies.registry import POLICIES

__all__ = ["make_agent", "make_environment", "make_policy"]


def _check_settings(
    what: str,
    function: Callable[..., Any],
    given: Mapping[str, Any],
    hidden: Sequence[str],
    beside: Sequence[str] = (),
) -> None:
    """Refuses settings that `function` does not take; `beside` are set in the same place, but go elsewhere."""
    if _takes_anything(function):
        return
    top = [*(item.name for item in dataclasses.fields(RunConfig)), *SHORTHANDS]
    known = [*(name for name in parameters_of(function) if name not in hidden), *beside]
    for name in given:
        if name not in known:
            there = f"it stands at the top level; write {name!r}" if name in top else choices(name, known)
            raise UserError(f"Unknown setting {name!r} of {what}: {there}")


def _takes_anything(function: Callable[..., Any]) -> bool:
    return any(one.kind is one.VAR_KEYWORD for one in inspect.signature(function).parameters.values())


def _takes_no(world: str, key: str) -> UserError:
    return UserError(f"The world {world!r} takes no {key!r}: leave it out")


def make_policy(config: RunConfig) -> Any:
    """Make the start policy, or None for a world without one.

    Raises:
        UserError: A world that takes no policy, an unknown setting, or nothing to load at the path.
    """
    if config.policy is None:
        return None
    if "policy" not in parameters_of(world_class(config.env.id)):  # loading one may take minutes
        raise _takes_no(config.env.id, "policy")
    settings = dict(config.policy.settings)
    from duelenv.policies.causal_lm import CausalLMPolicy

    name, settings = config.policy.name, dict(config.policy.settings)
    _check_settings("the policy" if name == "path" else f"the policy {name!r}", POLICIES[name], settings, ())
    if name == "toy":
        integer("'policy.toy.seed'", settings.get("seed", 0), low=0)
    try:
        made = POLICIES.make(name, settings)
    except (OSError, ValueError) as error:
        if name != "path" or isinstance(error, UserError):
            raise
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"Cannot load a language model from {settings['path']!r}: {reason}") from error
    if not isinstance(made, CausalLMPolicy):
        raise UserError(
            f"policy {name!r} made {type(made).__name__}, expected a duelenv.policies.CausalLMPolicy; return one"
        )
    return made


def make_prompts(config: RunConfig) -> dict[str, list[str]]:
    """Make prompts to learn on and held-out ones: `{"train": [...], "test": [...]}`; empty without `prompts`.

    Raises:
        UserError: A missing file or column, or too few prompts.
    """
    if config.prompts is None:
        return {}
    return prompts_from(config.prompts.name, config.prompts.settings)


def make_oracle(config: RunConfig, key: str = "oracle", home: Home | None = None) -> Any:
    """Make the labelling oracle (or with `key="evaluation_oracle"` the judging one), or None if none is set.

    Args:
        config: The run.
        key: Which of the two.
        home: What the run gives to oracles that take it.
    """
    named = getattr(config, key)
    if named is None:
        return None
    from duelenv import oracles

    if "home" in named.settings:
        raise UserError(f"'{key}.home' is given by the run: leave it out")
    return oracles.make(named.name, home=home, **named.settings)


def make_environment(
    config: RunConfig,
    *,
    policy: Any = None,
    wrap_oracle: Callable[[str, Any], Any] | None = None,
    home: Home | None = None,
) -> Any:
    """Make the vector environment of a run.

    Args:
        config: The run.
        policy: The start policy, for worlds that have one.
        wrap_oracle: Applied to each oracle, with the key it has in the config, before the world gets it.
        home: What the run gives to oracles that take it.

    Raises:
        UserError: Unknown world or setting, or a setting that the world refuses.
    """
    import gymnasium

    world = config.env.id
    make = world_class(world)
    known = parameters_of(make)
    settings = dict(config.env.settings)
    for name in settings:
        if name in ELSEWHERE:
            raise UserError(f"'env.{name}' is set in the wrong place: use {ELSEWHERE[name]!r} at the top level")
    rows = "batch" if config.replicated else "num_envs"
    _check_settings(world, make, settings, tuple(ELSEWHERE), beside=(rows,))
    if "matrix" in settings:
        settings["matrix"] = make_matrix(settings["matrix"])
    prompts = make_prompts(config)
    oracles = {key: make_oracle(config, key, home) for key in ("oracle", "evaluation_oracle")}
    if wrap_oracle is not None:
        oracles = {key: None if made is None else wrap_oracle(key, made) for key, made in oracles.items()}
    parts: dict[str, Any] = {
        "policy": policy,
        **oracles,
        "prompts": prompts.get("train"),
        "test_prompts": prompts.get("test"),
        "data": None if config.data is None else dict(config.data),
        "budget": config.budget.labels,
    }
    for name, value in parts.items():
        if value is None:
            required = name in known and known[name].default is inspect.Parameter.empty
            if required:
                example = " (data=FILE on the command line)" if name == "data" else ""
                raise UserError(f"The world {world!r} needs {ELSEWHERE[name]!r}: set it at the top level{example}")
        elif name not in known:
            raise _takes_no(world, ELSEWHERE[name])
        else:
            settings[name] = value
    function = function_named("features", settings.get("features"))
    if function is not None:
        if "data" in known:
            settings["features"] = kept_features(*function, settings.get("data"))
        else:
            settings["features"] = load_function(*function, "env.features")
    elif isinstance(settings.get("features"), list):
        named = [(item, function_named("features", item)) for item in settings["features"]]
        settings["features"] = [
            item if found is None else load_function(*found, "env.features") for item, found in named
        ]
    batch = config.env.batch or 1
    if config.replicated:
        num_envs = len(config.seeds) * batch
        if "batch" in known or (batch > 1 and _takes_anything(make)):
            settings["batch"] = batch
        elif batch > 1:
            raise _takes_no(world, "env.batch")
    else:
        num_envs = config.env.num_envs or 16
    if config.budget.labels is not None:
        settings |= _rounds_for(config.budget.labels, settings, known, batch if config.replicated else num_envs)
    for name, parameter in known.items():
        if parameter.default is inspect.Parameter.empty and name not in settings and name != "num_envs":
            raise UserError(f"The world {world!r} needs the setting {name!r}: set 'env.{name}'")
    return gymnasium.make_vec(world, num_envs=num_envs, **settings)


def _rounds_for(
    labels: int, settings: Mapping[str, Any], known: Mapping[str, inspect.Parameter], rows: int
) -> dict[str, Any]:
    """Find the horizon in which a budget is spent, where every row is asked and the config leaves it open.

    Raises:
        UserError: The config's horizon is too short for it.
    """
    rounds = -(-labels // rows)
    if settings.get("selective") or "horizon" not in known:
        return {}
    if "horizon" not in settings:
        return {"horizon": rounds}
    horizon = integer("'env.horizon'", settings["horizon"], low=1)
    if horizon < rounds:
        raise UserError(
            f"'budget.labels' is {labels}, but {horizon} rounds of {rows} ask for {horizon * rows} at most: set "
            f"'env.horizon' to {rounds}, leave it out, or lower the budget"
        )
    return {}


def make_agent(config: RunConfig, label: str, env: Any, seed: int) -> Any:
    """Make the agent with this label, for `env`."""
    from duelenv import agents

    chosen = config.agent(label)
    return agents.make(chosen.name, env, seed=seed, **chosen.settings)
