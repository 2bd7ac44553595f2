"""Every kind of part that has a name in a config: what it is called there, and the registry that knows the names.

`duelenv list` prints them. A new registry belongs here; a test compares this table with what the packages declare.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final, NamedTuple

from duelenv.ground.registry import Registry

__all__ = ["KINDS", "Kind"]


class Kind(NamedTuple):
    """A kind of part.

    Attributes:
        title: In the plural.
        where: The key of a config at which a name stands.
        place: "module:attribute" of its registry.
    """

    title: str
    where: str
    place: str

    @property
    def agents_key(self) -> str | None:
        """The key within an agent's settings, "ask"; None where a name stands elsewhere."""
        key = self.where.removeprefix("agents.LABEL.")
        return None if key == self.where else key

    @property
    def registry(self) -> Registry[Any]:
        """The registry, imported now."""
        module, _, attribute = self.place.partition(":")
        registry: Registry[Any] = getattr(import_module(module), attribute)
        return registry


KINDS: Final = (
    Kind("agents", "agents", "duelenv.agents.base:AGENTS"),
    Kind("ask rules", "agents.LABEL.ask", "duelenv.agents.asking:ASK"),
    Kind("prompt rules", "agents.LABEL.prompts", "duelenv.agents.asking:PROMPTS"),
    Kind("beliefs", "agents.LABEL.belief", "duelenv.agents.parts:BELIEFS"),
    Kind("teaching rules", "agents.LABEL.teach", "duelenv.agents.teaching:TEACHING"),
    Kind("losses", "agents.LABEL.loss", "duelenv.agents.registry:LOSSES"),
    Kind("bonuses", "agents.LABEL.bonus", "duelenv.agents.registry:BONUSES"),
    Kind("oracles", "oracle", "duelenv.oracles.base:ORACLES"),
    Kind("wrappers of oracles", "oracle.NAME", "duelenv.oracles.wrappers:WRAPPERS"),
    Kind("shapes of reward servers", "oracle.api", "duelenv.oracles.served.server:APIS"),
    Kind("worlds", "env", "duelenv.worlds:WORLDS"),
    Kind("stages of labels", "env.stages", "duelenv.labels.stage:STAGES"),
    Kind("matrices", "env.matrix", "duelenv.oracles.matrices:MATRICES"),
    Kind("utilities of features", "env.utility", "duelenv.oracles.utilities:UTILITIES"),
    Kind("links", "env.link", "duelenv.oracles.links:LINKS"),
    Kind("encoders", "env.features", "duelenv.worlds.encoders:ENCODERS"),
    Kind("policies", "policy", "duelenv.policies.registry:POLICIES"),
    Kind("samplers", "policy.sampler", "duelenv.policies.registry:SAMPLERS"),
    Kind("sources of prompts", "prompts", "duelenv.experiments.config.prompt_sources:PROMPT_SOURCES"),
    Kind("trackers", "trackers", "duelenv.experiments.trackers.base:TRACKERS"),
    Kind("backends", "backend", "duelenv.experiments.running.backends:BACKENDS"),
)
