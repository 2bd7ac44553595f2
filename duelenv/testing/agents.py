"""The check of agents, in small worlds of features or with a small policy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import cycle, islice
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from numpy.typing import NDArray

from duelenv.scalar import DuelEnv
from duelenv.testing.failure import frozen, require, same
from duelenv.vector import DuelVectorEnv

Make = Callable[[Any, int], Any]
"""From an environment and a seed to an agent: `lambda env, seed: duelenv.agents.make("mine", env, seed=seed)`."""

World = Callable[..., Any]
"""Makes a vector world for `num_envs`, `batch` and other keyword arguments."""

_ROUNDS = 5


class _Step(NamedTuple):
    """What an agent is shown and told of a round."""

    observation: dict[str, Any]
    labels: NDArray[np.float64]
    late: Any


def check_agent(
    make: Make,
    *,
    world: World | None = None,
    replicates: int = 2,
    batch: int = 3,
    symmetric: bool = True,
    rounds: int = 15,
) -> None:
    """Check an agent.

    Actions of the right shape and range in vector and scalar worlds and with one row; the same actions from the same
    seed, asked what it believes or not, and from what it was shown and told alone, whatever the truth behind it;
    nothing written into observations, actions or labels; labels that are missing, tied or soft; a state taken in the
    middle that goes on exactly; replicates that do not hear each other; the same knowledge from a duel told in either
    order. Where a policy is trained: that labels move it, and nothing else does; that the one it started from stays.

    Args:
        make: Makes the agent for an environment and a seed.
        world: Makes a world for keyword arguments `num_envs` and `batch`; by default FeatureDuel with four candidates.
            `alignment_world` has a policy to train, and one replicate.
        replicates: R; 1 for an agent that serves one.
        batch: Rows of a replicate; 1 for an agent that decides on each duel after the last one's label.
        symmetric: Whether (first, second, label) teaches what (second, first, 1 - label) does; false for agents whose
            two positions learn apart, as in sparring.
        rounds: After how many rounds it must have learnt something.

    Raises:
        CheckFailed: It breaks its contract.
    """
    world = world or _features
    rows = replicates * batch

    def env() -> Any:
        return world(num_envs=rows, batch=batch)

    steps = _transcript(env())
    _check_actions(make, env, steps)
    _check_memory(make, env, steps)
    _check_hidden(make, env, steps)
    _check_labels(make, env, steps, symmetric=symmetric, rounds=rounds)
    if replicates > 1:
        _check_replicates(make, env, steps, batch)
    if env().unwrapped.view().policy is not None:
        _check_policy(make, env, steps)
    _play(make, world(num_envs=1, batch=1), "with one row")
    if world is _features:
        _play(
            make,
            gymnasium.make("duelenv/FeatureDuel-v0", num_candidates=4, dim=3, horizon=_ROUNDS),
            "in a scalar world",
        )


def _features(*, num_envs: int, batch: int) -> Any:
    return gymnasium.make_vec(
        "duelenv/FeatureDuel-v0", num_envs=num_envs, batch=batch, num_candidates=4, dim=3, horizon=_ROUNDS + 3
    )


def alignment_world(*, num_envs: int, batch: int) -> Any:
    """Make a small AlignmentDuel with a new policy of random weights, two candidates of it and two of its reference.

    Loads torch and transformers. Pass it to `check_agent` with `replicates=1`.
    """
    from duelenv import oracles
    from duelenv.policies import CausalLMPolicy, tiny_model

    return gymnasium.make_vec(
        "duelenv/AlignmentDuel-v0",
        num_envs=num_envs,
        policy=CausalLMPolicy(*tiny_model("gpt_neox", 0), max_new_tokens=5),
        oracle=oracles.make("length"),
        prompts=["tell me about the garden", "tell me about the river", "how is the king"],
        test_prompts=["tell me about the village"],
        sources={"policy": 2, "reference": 2},
        horizon=_ROUNDS + 3,
    )


def _transcript(env: Any) -> list[_Step]:
    """Record rounds of a world with labels of all kinds, in which nobody's agent played; frozen."""
    rng = np.random.default_rng(0)
    observation, _ = env.reset(seed=11)
    steps = []
    for number in range(_ROUNDS):
        shown = frozen(observation)
        actions = np.tile(np.arange(2), (env.unwrapped.num_envs, 1))
        observation, _, _, _, info = env.step(actions)
        labels = rng.integers(0, 2, env.unwrapped.num_envs).astype(np.float64)
        labels[number % len(labels)] = (0.5, np.nan, 0.8, np.nan, 0.5)[number]
        labels.flags.writeable = False
        steps.append(_Step(shown, labels, info["late"]))
    return steps


Labels = Callable[["NDArray[Any]", "NDArray[Any]"], "NDArray[Any]"]
"""From the labels of a round and what was played to those that are told."""


def _as_they_are(labels: NDArray[Any], actions: NDArray[Any]) -> NDArray[Any]:
    return labels


def _by_place(labels: NDArray[Any], actions: NDArray[Any], *, sign: int) -> NDArray[Any]:
    """Let the candidate of two with the lower number always win, or always lose."""
    return np.asarray(0.5 + 0.5 * sign * np.sign(actions[:, 1] - actions[:, 0]), np.float64)


def _told(agent: Any, steps: list[_Step], labels: Labels = _as_they_are) -> list[Any]:
    """Record what an agent plays in these rounds, told these labels."""
    played = []
    for step in steps:
        actions = np.asarray(agent.act(step.observation))
        kept = actions.copy()
        agent.update(step.observation, actions, labels(step.labels, actions), step.late)
        require(np.array_equal(actions, kept), "update changed the actions that it was given")
        played.append(kept)
    return played


def _check_actions(make: Make, env: Callable[[], Any], steps: list[_Step]) -> None:
    made = env()
    view = made.unwrapped.view()
    agent = make(made, 0)
    try:
        played = _told(agent, steps)
    except ValueError as error:
        if "read-only" in str(error):
            require(False, f"the agent wrote into an observation or into labels ({error})")
        raise
    for actions in played:
        require(
            actions.shape[:1] == (view.num_envs,) and actions.shape[1:] in ((2,), (3,)) and actions.dtype.kind in "iu",
            f"act returned {actions.dtype} of shape {actions.shape}, expected integers of shape {(view.num_envs, 2)}",
        )
        require(
            (actions[:, :2] >= 0).all() and (actions[:, :2] < view.num_candidates).all(),
            f"act named candidates from {actions[:, :2].min()} to {actions[:, :2].max()}, expected 0 to "
            f"{view.num_candidates - 1}",
        )
    require(same(played, _told(make(env(), 0), steps)), "two agents of one seed played differently in the same rounds")
    arms = np.asarray(agent.recommend(steps[-1].observation))
    require(
        arms.shape == (view.num_envs,)
        and arms.dtype.kind in "iu"
        and ((arms >= 0) & (arms < view.num_candidates)).all(),
        f"recommend returned {arms.dtype} of shape {arms.shape}, expected one candidate of each row",
    )
    require(
        same(arms, np.asarray(agent.recommend(steps[-1].observation))),
        "recommend named other candidates when it was asked again: it may not draw",
    )
    asked = make(env(), 0)
    if hasattr(asked, "believed"):
        again = []
        for step in steps:
            asked.believed(step.observation, 3)
            again += _told(asked, [step])
        require(same(again, played), "an agent that was asked what it believes played otherwise afterwards")
    figures = agent.update(steps[-1].observation, played[-1], steps[-1].labels, steps[-1].late)
    require(
        isinstance(figures, dict)
        and all(isinstance(name, str) and np.ndim(value) == 0 for name, value in figures.items()),
        f"update returned {figures!r}, expected figures by name",
    )


def _check_memory(make: Make, env: Callable[[], Any], steps: list[_Step]) -> None:
    one = make(env(), 0)
    _told(one, steps[:2])
    state = one.state_dict()
    expected = _told(one, steps[2:])
    other = make(env(), 0)
    other.load_state_dict(state)
    require(
        same(_told(other, steps[2:]), expected),
        "an agent that goes on from a state taken in the middle plays otherwise than the one it was taken of",
    )
    again = make(env(), 0)
    again.load_state_dict(state)
    require(
        same(_told(again, steps[2:]), expected),
        "a state changed while the agent that it was taken of, or given to, went on: return and keep copies",
    )


def _check_hidden(make: Make, env: Callable[[], Any], steps: list[_Step]) -> None:
    first = _told(make(env(), 0), steps)
    other = env()
    other.reset(seed=77)
    second = _told(make(other, 0), steps)
    require(
        same(first, second),
        "an agent made for a world of another truth played otherwise in the same rounds: it looks behind what it is "
        "shown",
    )
    agent = make(env(), 0)
    held = _environment_in(agent)
    require(held is None, f"the agent holds its environment (at {held}), and with it the truth: keep env.view() alone")


def _environment_in(agent: Any) -> str | None:
    """Find where an agent keeps an environment, looking through attributes, containers and closures."""
    waiting: list[tuple[str, Any]] = [("agent", agent)]
    seen: set[int] = set()
    while waiting:
        place, value = waiting.pop()
        if id(value) in seen or len(seen) > 20_000:
            continue
        seen.add(id(value))
        if isinstance(value, DuelVectorEnv | DuelEnv | gymnasium.Env | gymnasium.vector.VectorEnv):
            return place
        if isinstance(value, dict):
            waiting += [(f"{place}[{key!r}]", item) for key, item in value.items()]
        elif isinstance(value, list | tuple | set):
            waiting += [(f"{place}[...]", item) for item in value]
        elif callable(value) and getattr(value, "__closure__", None):
            names = value.__code__.co_freevars
            cells = zip(names, value.__closure__, strict=True)
            waiting += [(f"{place}:{name}", cell.cell_contents) for name, cell in cells if _filled(cell)]
        if type(value).__module__.partition(".")[0] not in ("builtins", "numpy", "torch"):
            waiting += [(f"{place}.{name}", item) for name, item in getattr(value, "__dict__", {}).items()]
    return None


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _check_labels(make: Make, env: Callable[[], Any], steps: list[_Step], *, symmetric: bool, rounds: int) -> None:
    nothing = make(env(), 0)
    _told(nothing, steps, lambda labels, _: np.full_like(labels, np.nan))
    agents = []
    for turned in (False, True) if symmetric else (False,):
        agent = make(env(), 0)
        for step in steps:
            actions = np.asarray(agent.act(step.observation)).copy()
            labels = step.labels
            if turned:
                actions[:, :2] = actions[:, 1::-1]
                labels = 1.0 - labels
            agent.update(step.observation, actions, labels, step.late)
        agents.append(np.asarray(agent.recommend(steps[-1].observation)))
    if symmetric:
        require(
            same(*agents),
            "an agent that was told (second, first, 1 - label) recommends otherwise than one told (first, second, "
            "label); one whose positions learn apart is checked with symmetric=False",
        )
    learnt = [make(env(), 0) for _ in range(2)]
    long = list(islice(cycle(steps), rounds))
    plays = [_told(learnt[side], long, partial(_by_place, sign=(1, -1)[side])) for side in (0, 1)]
    ends = [np.asarray(agent.recommend(steps[0].observation)) for agent in learnt]
    require(
        not (same(*plays) and same(*ends)),
        "the agent played and recommends the same whatever it was told: it learns nothing",
    )


def _check_replicates(make: Make, env: Callable[[], Any], steps: list[_Step], batch: int) -> None:
    def others_turned(labels: NDArray[Any], actions: NDArray[Any]) -> NDArray[Any]:
        turned = labels.copy()
        turned[batch:] = 1.0 - turned[batch:]
        return turned

    one, other = _told(make(env(), 0), steps), _told(make(env(), 0), steps, others_turned)
    require(
        same([actions[:batch] for actions in one], [actions[:batch] for actions in other]),
        "the labels of one replicate changed what another one plays",
    )


def _check_policy(make: Make, env: Callable[[], Any], steps: list[_Step]) -> None:
    def weights(policy: Any) -> list[NDArray[Any]]:
        return [parameter.detach().cpu().numpy().copy() for parameter in policy.parameters()]

    def said_by_the_start(policy: Any) -> NDArray[Any]:
        shown = steps[0].observation
        return np.asarray(policy.score(list(shown["prompt"]), shown["tokens"], shown["mask"], source="start"))

    def same_weights(one: list[NDArray[Any]], other: list[NDArray[Any]]) -> bool:
        return all(np.array_equal(*pair) for pair in zip(one, other, strict=True))

    made = env()
    policy, agent = made.unwrapped.view().policy, make(made, 0)
    before, start = weights(policy), said_by_the_start(policy)
    agent.act(steps[0].observation)
    agent.recommend(steps[0].observation)
    require(same_weights(before, weights(policy)), "act or recommend moved the policy: only update may")
    _told(agent, steps, lambda labels, _: np.full_like(labels, np.nan))
    require(same_weights(before, weights(policy)), "the policy moved without any label")
    _told(agent, steps)
    require(not same_weights(before, weights(policy)), "the policy did not move, whatever its agent was told")
    require(
        np.allclose(start, said_by_the_start(policy), atol=1e-5),
        "the policy that the run started from changed: it is what everything is compared with",
    )


def _play(make: Make, env: Any, where: str) -> None:
    observation, _ = env.reset(seed=3)
    agent = make(env, 0)
    for _ in range(_ROUNDS):
        actions = agent.act(observation)
        require(
            env.action_space.contains(actions), f"act returned {actions!r} {where}, expected one of {env.action_space}"
        )
        following, labels, _, _, info = env.step(actions)
        agent.update(observation, actions, labels, info["late"])
        observation = following
    agent.recommend(observation)
