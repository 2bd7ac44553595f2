"""One shape of sentence for every name that a config may hold and that nobody knows."""

import importlib
import re
from pathlib import Path

import pytest

from duelenv import UserError
from duelenv.ground.registry import Registry

ROOT = Path(__file__).parents[1]
DECLARED = re.compile(r"^([A-Z_]+): Registry\[", re.M)
TAIL = "; one of your own is known once 'modules' names the file that registers it"


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts if parts[0] == "duelenv" else ("duelenv", *parts)).removesuffix(".__init__")


#: Every registry that the packages declare, found in their text, so that a new one is held to the shape too.
REGISTRIES = [
    (module_of(path), name)
    for folder in ("agents", "oracles", "duelenv", "experiments")
    for path in sorted((ROOT / folder).rglob("*.py"))
    for name in DECLARED.findall(path.read_text(encoding="utf-8"))
]


def refusal(look_up, *given):
    with pytest.raises(UserError) as refused:
        look_up(*given)
    return str(refused.value)


def test_the_registries_are_found():
    assert {
        "AGENTS",
        "ORACLES",
        "STAGES",
        "BELIEFS",
        "ASK",
        "TEACHING",
        "LOSSES",
        "BONUSES",
        "ENCODERS",
        "SAMPLERS",
    } <= {name for _, name in REGISTRIES}


@pytest.mark.parametrize(("module", "name"), REGISTRIES)
def test_an_unknown_name_is_told_the_nearest_and_where_one_s_own_go(module, name):
    registry: Registry = getattr(importlib.import_module(module), name)
    known = max(registry.names(), key=len)
    everything = f"choose from {', '.join(registry.names())}"
    near = refusal(registry.__getitem__, f"{known}z")
    assert near == f"{registry.kind} '{known}z' is unknown: did you mean {known!r}? ({everything}){TAIL}"
    assert refusal(registry.__getitem__, "0000") == f"{registry.kind} '0000' is unknown: {everything}{TAIL}"


def test_names_that_are_in_no_registry_have_the_same_shape():
    from duelenv.experiments.config.run_config import RunConfig
    from duelenv.experiments.config.worlds import world_class
    from duelenv.experiments.running.backends import open_backend
    from duelenv.oracles.links import link
    from duelenv.oracles.matrices import make_matrix
    from duelenv.policies.samplers import sampler_of
    from duelenv.worlds.encoders import read_features

    agents = {"name": "x", "env": "FeatureDuel", "agents": ["pasive"]}
    for look_up, kind, given, meant, extensible in (
        (world_class, "world", "duelenv/FeatureDul-v0", "duelenv/FeatureDuel-v0", True),
        (lambda name: RunConfig.from_dict(agents), "agent", "pasive", "passive", True),
        (sampler_of, "sampler", "owm", "own", True),
        (read_features, "encoder", "wrds", "words", True),
        (
            lambda name: open_backend(name, {}, jobs=1, threads=1),
            "backend",
            "lokky",
            "loky",
            True,
        ),
        (link, "link", "probits", "probit", False),
        (make_matrix, "matrix", "cyclical", "cyclic", False),
    ):
        said = refusal(look_up, given)
        assert said.startswith(f"{kind} {given!r} is unknown: did you mean {meant!r}? (choose from ")
        assert said.endswith(TAIL) is extensible
