"""Makes all that a run needs once, before anything is played or written, so that a wrong setting is found at once."""

from __future__ import annotations

import json
import traceback
from collections.abc import Sequence
from typing import Any, Final

from duelenv.core import AgentView
from duelenv.experiments.config.agent_settings import rows_asked
from duelenv.experiments.config.modules import load_modules
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.config.settings import AgentConfig
from duelenv.experiments.folder.environment import describe
from duelenv.experiments.running import assembly
from duelenv.experiments.running.given_labels import check_given, read_labels
from duelenv.experiments.running.start_policy import start_policy, threads_of
from duelenv.experiments.trackers import check_trackers
from duelenv.ground.errors import UserError
from duelenv.oracles.sources import is_free

__all__ = ["prepare"]

#: What a run calls of an agent.
_ASKED_OF_AGENTS: Final = ("act", "update", "recommend", "state_dict", "load_state_dict")


def prepare(config: RunConfig) -> tuple[dict[str, Any], bool]:
    """Make everything once, so that a wrong setting is found before any work, and describe where it runs.

    Returns:
        Versions and hardware; and whether all oracles answer for nothing, so that rounds can be played to no purpose.

    Raises:
        UserError: The first setting that is refused.
    """
    load_modules(config.modules)
    check_trackers(config.trackers)
    if config.budget.run is not None and config.oracle is None and config.evaluation_oracle is None:
        raise UserError(
            f"'budget.run' is {config.budget.run}, a limit on answers that somebody may be paid for, and here the "
            "world knows every answer itself: leave it out, or set 'budget.labels'"
        )
    if config.oracle is None and config.evaluation_oracle is None:
        for name in ("tokens", "money"):
            if getattr(config.budget, name) is not None:
                raise UserError(
                    f"'budget.{name}' is {getattr(config.budget, name)}, a limit on what oracles cost, and this run "
                    "has none: leave it out"
                )
    policy = start_policy(config)
    free = True

    def noticed(key: str, oracle: Any) -> Any:
        nonlocal free
        free &= oracle is None or is_free(oracle)
        return oracle

    worlds: dict[str, Any] = {}  # by what an agent changes in them: most agents share one
    played: dict[str, list[AgentConfig]] = {}
    for agent in config.agents:
        key = json.dumps(dict(agent.env), sort_keys=True, default=str)
        if key not in worlds:
            worlds[key] = assembly.make_environment(config.for_agent(agent.label), policy=policy, wrap_oracle=noticed)
            _check_changes(config, agent.label, worlds[key])
        _check_agent(config, agent, worlds[key])
        played.setdefault(key, []).append(agent)
        if config.labels is not None:
            check_given(worlds[key].unwrapped, read_labels(**config.labels))
    for key, agents in played.items():
        _check_report_at(config, agents, worlds[key].unwrapped.view())
    with threads_of(config):
        return describe(with_torch=policy is not None), free


def _called(named: AgentConfig) -> str:
    return f"agent {named.name!r}" + ("" if named.label == named.name else f" (label {named.label!r})")


def _check_agent(config: RunConfig, named: AgentConfig, env: Any) -> None:
    """Refuse what does not do all that a run asks of an agent, before anything is played or written.

    Raises:
        UserError: A setting is refused, or a method is missing.
    """
    try:
        agent = assembly.make_agent(config, named.label, env, config.seeds[0])
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, TypeError) and "abstract" in str(error):
            raise UserError(f"{_called(named)} is not finished ({error}): write what is missing") from error
        *_, last = traceback.extract_tb(error.__traceback__)
        said = (str(error).splitlines() or [""])[0]
        raise UserError(
            f"{_called(named)} cannot be made: {type(error).__name__}: {said}, in line {last.lineno} of "
            f"{last.filename!r}; correct it"
        ) from error
    missing = [name for name in _ASKED_OF_AGENTS if not callable(getattr(agent, name, None))]
    if missing:
        raise UserError(
            f"{_called(named)}, of {type(agent).__module__}.{type(agent).__qualname__}, has no "
            f"{missing[0]!r}, expected {', '.join(_ASKED_OF_AGENTS)}: write it, or compose the agent with "
            "duelenv.agents.parts.compose; duelenv.testing.check_agent says what else is wrong"
        )


def _check_changes(config: RunConfig, label: str, env: Any) -> None:
    """Refuse changes of the truth that a run never reaches: it plays one episode, and rounds count from 0.

    Raises:
        UserError: There is one.
    """
    own = "changes" in config.agent(label).env
    changes = config.for_agent(label).env.settings.get("changes") or ()
    horizon = env.unwrapped.horizon
    late = [number for number in changes if number >= horizon] if config.env.id.startswith("duelenv/") else []
    if late:
        where = f"'changes' of the agent {label!r} (in 'variants' or its 'env')" if own else "'env.changes'"
        raise UserError(
            f"{where} holds {late[0]}, but a run ends after {horizon} rounds, counted from 0, so that this change "
            f"would never happen: give rounds below {horizon}, or a longer 'env.horizon'"
        )


def _check_report_at(config: RunConfig, agents: Sequence[AgentConfig], view: AgentView) -> None:
    """Refuse numbers of labels that no agent of a world ever gets.

    Raises:
        UserError: There is one.
    """
    if not config.report_at:
        return
    asked = [rows_asked(agent.name, view, config.seeds[0], agent.settings) for agent in agents]
    most = view.horizon * max(asked)
    if view.budget is not None:
        most = min(most, view.budget)
    who, raised = "", "'env.horizon' or 'budget.labels'"
    if max(asked) < view.batch:
        who = f", which {_called(agents[asked.index(max(asked))])} does"
        raised = "'env.horizon', the agent's 'asked' or 'budget.labels'"
    for count in config.report_at:
        if count > most:
            raise UserError(
                f"'report_at' holds {count}, but an agent gets {most} labels at most{who}: leave it out, as with "
                f"report_at=[], or raise {raised}"
            )
