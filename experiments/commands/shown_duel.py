"""Prints one duel of any world as text, so that a person sees what an agent sees, and the truth beside it.

Not for agents: it looks at the truth, which they never see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from duelenv.experiments.config.contents import function_named
from duelenv.experiments.config.loading import apply_overrides, load, override_mapping, read_config, suites
from duelenv.experiments.config.modules import load_modules
from duelenv.experiments.config.places import of_world
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.config.settings import full_id, read_modules
from duelenv.experiments.config.worlds import known_worlds
from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.running import assembly
from duelenv.ground.checks import choices
from duelenv.ground.errors import UserError
from duelenv.ground.terminal import printable
from duelenv.rendering import candidate_lines, duel_lines

__all__ = ["show_config", "show_duel"]

#: What a world needs at least, when it is shown by its id alone.
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "duelenv/AlignmentDuel-v0": {
        "policy": "toy",
        "prompts": "toy",
        "oracle": "good_words",
        "env": {"num_envs": 1, "num_candidates": 4},
    },
    "duelenv/MatrixDuel-v0": {"env": {"matrix": [[0.5, 0.6, 0.9], [0.4, 0.5, 0.7], [0.1, 0.3, 0.5]]}},
}


def show_config(target: str, overrides: Sequence[str]) -> RunConfig:
    """Find the config behind what a user asked to see.

    Args:
        target: Path of a config, name of a suite, or a world's id (`FeatureDuel`, `duelenv/FeatureDuel-v0`).
        overrides: `key=value` each; keys without a dot that are the world's are set there. Those of a world by its id
            may name `modules`, which register it.

    Raises:
        UserError: None of these, or the config in a run folder that names Python of its own: who looks at the run of
            somebody else runs none of theirs.
    """
    import gymnasium

    if Path(target).is_file() or target in suites():
        config = load(target, _in_world(read_config(target)[1], overrides))
        _refuse_code_of_a_run(Path(target), config)
        return config
    world = full_id(target)
    modules = override_mapping({}, [one for one in overrides if one.partition("=")[0].strip() == "modules"])
    load_modules(read_modules(modules.get("modules")))
    if target.endswith((".yaml", ".yml")) or world not in gymnasium.registry:
        short = [name.removeprefix("duelenv/").removesuffix("-v0") for name in known_worlds()]
        known = [*short, *suites()]
        raise UserError(
            f"{target!r} is no config file, no suite and no world: {choices(target, known)}; a world of your own is "
            "known once modules=FILE names what registers it"
        )
    defaults = _DEFAULTS.get(world, {})
    raw: dict[str, Any] = {"name": "show", "agents": ["passive"], **defaults}
    raw["env"] = {"id": world, **defaults.get("env", {})}
    apply_overrides(raw, _in_world(raw, overrides))
    return RunConfig.from_dict(raw)


def _in_world(raw: Mapping[str, Any], overrides: Sequence[str]) -> list[str]:
    """Write overrides of what is the world's as `env.KEY`."""
    own = of_world(raw)
    return [f"env.{one}" if one.partition("=")[0].strip() in own else one for one in overrides]


def _refuse_code_of_a_run(path: Path, config: RunConfig) -> None:
    if not RunFolder(path.parent).cells.is_dir():
        return
    settings = [*config.env.settings.items(), *(item for agent in config.agents for item in agent.env.items())]
    code = [*config.modules, *(value for key, value in settings if function_named(key, value) is not None)]
    if code:
        raise UserError(
            f"{str(path)!r} lies in a run folder and names Python, {code[0]!r}, that showing a duel would run: read "
            "that, copy the config to another folder, and show the copy"
        )


def show_duel(config: RunConfig) -> str:
    """Write one round of the config's world, with a pair drawn at random, as text.

    Args:
        config: The run; its first seed decides what is shown.
    """
    from duelenv.oracles.sources import is_free

    load_modules(config.modules)
    env = assembly.make_environment(config.for_agent(config.baseline), policy=assembly.make_policy(config))
    world = env.unwrapped
    try:
        observation, _ = env.reset(seed=config.seeds[0])
        candidates = world.num_candidates
        pair = np.random.default_rng(config.seeds[0]).choice(candidates, size=2, replace=False)
        actions = np.tile(pair, (env.num_envs, 1))
        if world.selective:
            actions = np.column_stack([actions, np.ones(env.num_envs, dtype=np.int64)])
        lines = [f"{config.env.id}, {candidates} candidates, seed {config.seeds[0]}", ""]
        lines += candidate_lines(observation, row=0)
        probability = None
        oracle = getattr(world, "oracle", None)
        if oracle is None or is_free(oracle):
            # What computes for nothing is asked again; any other oracle is asked once, by the step below.
            probability = world.preferences(actions)
        _, labels, _, _, info = env.step(actions)
    finally:
        env.close()
    truth = []
    first, second = (int(arm) for arm in pair)
    if probability is not None:
        tie = f", P(tie) = {probability.tie[0]:.3f}" if probability.tie[0] > 0 else ""
        truth.append(f"truth    P({first} beats {second}) = {probability.win[0]:.3f}{tie}")
    regret = {name: float(values[0]) for name, values in info.get("regret", {}).items()}
    lines += ["", *duel_lines(first, second, float(labels[0]), regret, truth)]
    return "\n".join(printable(line) for line in lines)
