"""The default parts that agents are composed of, made for the world they meet; no rule of any method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Protocol

from duelenv.agents.asking import ASK, AskResources, PromptChoice
from duelenv.agents.base import SettingsReader
from duelenv.agents.beliefs.base import Belief
from duelenv.agents.composed import ComposedAgent
from duelenv.agents.roles import Learner, SetLearner
from duelenv.agents.schooling import Schooling
from duelenv.agents.teaching import NOTHING_ELSE, Objective, Resources, TeachingChoice, make_teaching
from duelenv.core import AgentView
from duelenv.ground.errors import UserError
from duelenv.ground.randomness import RowStreams
from duelenv.ground.registry import Registry


class BeliefBuilder(Protocol):
    """Makes a belief about the utility of `features`; registered under its name."""

    def __call__(self, view: AgentView, dim: int, seed: int, settings: SettingsReader) -> Belief: ...


BELIEFS: Registry[BeliefBuilder] = Registry("belief")


@dataclass(frozen=True)
class BeliefChoice:
    """Which belief an agent holds.

    Attributes:
        belief: One of `BELIEFS`; None takes "linear_logistic" in worlds of features and "ensemble" where a policy model
            is trained.
    """

    belief: str | None = None


def make_belief(view: AgentView, seed: int, settings: SettingsReader) -> Belief:
    """Make the belief about the utility of `features`, with its settings from `settings`.

    Raises:
        UserError: No such belief, a setting that it refuses, or a world that it does not serve.
    """
    features = view.observation_space["features"]
    assert features.shape is not None
    default = "linear_logistic" if view.policy is None else "ensemble"
    return BELIEFS[settings.take(BeliefChoice).belief or default](view, features.shape[-1], seed, settings)


@BELIEFS.register("linear_logistic")
def linear_logistic(view: AgentView, dim: int, seed: int, settings: SettingsReader) -> Belief:
    """Make a linear utility, its Gaussian posterior updated label by label."""
    from duelenv.agents.beliefs.linear_logistic import LinearLogistic, LinearLogisticSettings

    return LinearLogistic(
        dim,
        replicates=view.replicates,
        batch=view.batch,
        root=seed,
        settings=settings.take(LinearLogisticSettings),
    )


@BELIEFS.register("ensemble")
def ensemble(view: AgentView, dim: int, seed: int, settings: SettingsReader) -> Belief:
    """Make small networks side by side; loads torch."""
    from duelenv.agents.beliefs.ensemble import DeepEnsemble, DeepEnsembleSettings

    _require_one_replicate("ensemble", view)
    return DeepEnsemble(
        dim,
        batch=view.num_envs,
        root=seed,
        settings=settings.take(DeepEnsembleSettings),
        device="cpu" if view.policy is None else view.policy.device,
    )


@BELIEFS.register("laplace")
def laplace(view: AgentView, dim: int, seed: int, settings: SettingsReader) -> Belief:
    """Make a Gaussian over a last layer of features and random units of them, its prior fitted."""
    from duelenv.agents.beliefs.laplace import LaplaceSettings, LastLayerLaplace

    _require_one_replicate("laplace", view)
    return LastLayerLaplace(dim, batch=view.num_envs, root=seed, settings=settings.take(LaplaceSettings))


def _require_one_replicate(name: str, view: AgentView) -> None:
    if view.replicates > 1:
        raise UserError(
            f"belief={name!r} serves one replicate, and this world has {view.replicates}; "
            "set batch=num_envs or choose linear_logistic"
        )


def compose(
    view: AgentView,
    seed: int,
    settings: SettingsReader,
    *,
    name: str,
    ask: str,
    teach: str = NOTHING_ELSE,
    learner: Learner | None = None,
    teach_unasked: bool = False,
) -> ComposedAgent:
    """Make an agent of an ask rule: in a world of features it learns a belief, with a policy it teaches that.

    Args:
        view: Of the agent's world.
        seed: Root of the agent's streams.
        settings: Read for ask rule, belief, teaching rule and learner, as far as the agent has them.
        name: Purpose of its streams.
        ask: Which two candidates duel, one of `duelenv.agents.asking.ASK`.
        teach: What the policy is taught by default, one of `duelenv.agents.teaching.TEACHING`.
        learner: What moves the policy, in a world with one; None makes the preference learner.
        teach_unasked: Whether by default the rows of a selective world that do not ask are taught as the belief labels
            them.

    Raises:
        UserError: A name that nobody registered, or a setting that one of the parts refuses.
    """
    streams = RowStreams(seed, f"agents/{name}", view.num_envs)
    resources = AskResources(view, streams, lambda: make_belief(view, seed, settings), seed)
    select = ASK[ask](resources, settings)
    prompts = PromptChoice.of(resources, settings)
    schooling = make_schooling(
        view,
        seed,
        settings,
        name=name,
        resources=lambda: Resources(view, resources.belief, select),
        teach=teach,
        learner=learner,
        teach_unasked=teach_unasked,
        duel_is_draw=resources.duel_is_draw,
    )
    return ComposedAgent(
        view,
        select=select,
        belief=resources.belief if schooling is None or resources.holds_belief else None,
        schooling=schooling,
        prompts=prompts,
        labels=resources.labels,
        streams={"select": streams},
        listeners=resources.listeners,
    )


def make_schooling(
    view: AgentView,
    seed: int,
    settings: SettingsReader,
    *,
    name: str,
    resources: Callable[[], Resources],
    teach: str = NOTHING_ELSE,
    learner: Learner | None = None,
    teach_unasked: bool = False,
    duel_is_draw: bool = False,
) -> Schooling | None:
    """Make what moves the view's policy; None, and no settings read, in a world without one and without a learner.

    Args:
        view: Of the agent's world.
        seed: Root of the learner's streams.
        settings: Read for the teaching rule, for what is minimised and how weights are trained.
        name: The agent's, for messages.
        resources: Makes what a teaching rule may use; called where there is one.
        teach: The agent's own default, one of `duelenv.agents.teaching.TEACHING`.
        learner: The agent's own; None makes the preference learner.
        teach_unasked: Whether by default the belief labels the rows of a selective world that were not asked.
        duel_is_draw: What is known of the duels that are asked, see `duelenv.agents.asking.AskResources`.

    Raises:
        UserError: A name that nobody registered, a setting that one of the parts refuses, or nothing to teach.
    """
    unread: list[str] = []  # of what is minimised on labels, where none are taught
    if learner is None:
        if view.policy is None:
            return None
        from duelenv.agents.learners import PreferenceLearner
        from duelenv.agents.objective import ObjectiveSettings

        unread = [item.name for item in fields(ObjectiveSettings) if settings.given(item.name)]
        own = PreferenceLearner.of(view, seed, settings, duel_is_draw=duel_is_draw)
        if own.has_bonus and "bonus" not in unread:
            unread.append(f"the bonus of agent {name!r}")
        learner = own
    choice = settings.take(TeachingChoice)
    if choice.teach_unasked and not view.selective:
        raise UserError("teach_unasked=True teaches rows that were not asked, and here all are; set selective=True")
    rule = choice.teach or teach
    unasked = view.selective and (teach_unasked if choice.teach_unasked is None else choice.teach_unasked)
    taught = None
    if rule != NOTHING_ELSE or unasked:
        taught = make_teaching(rule, resources(), settings, unasked=unasked)
    own_objective = isinstance(taught, Objective)
    if own_objective and not isinstance(learner, SetLearner):
        raise UserError(
            f"teach={rule!r} brings an objective of its own, and so does the learner of agent {name!r}; choose a rule "
            "that teaches pairs, such as best_worst"
        )
    teach_labels = not own_objective if choice.teach_labels is None else choice.teach_labels
    if taught is None and not teach_labels:
        raise UserError(
            f"teach_labels=False with teach={rule!r} leaves nothing to teach; choose another rule, such as best_worst"
        )
    if not teach_labels and isinstance(learner, SetLearner) and learner.replayed:
        raise UserError(
            f"replay={learner.replayed} teaches old duels again, and teach={rule!r} teaches no labels; set "
            "teach_labels=True, or leave replay out"
        )
    if own_objective and unread and not teach_labels:
        raise UserError(
            f"teach={rule!r} brings an objective of its own, and nothing would read {' and '.join(unread)}; set "
            "teach_labels=True, or leave out what is not read"
        )
    return Schooling(view, learner, taught, teach_labels=teach_labels)
