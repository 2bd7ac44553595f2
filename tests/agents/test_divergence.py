"""A gradient step that is not finite: it is not taken, what it would have taught waits, and one sentence says where."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from worlds import make_vector, tiny_policy

import duelenv.agents
from duelenv import UserError
from duelenv.agents.beliefs.ensemble import DeepEnsemble, DeepEnsembleSettings
from duelenv.agents.beliefs.laplace import LastLayerLaplace
from duelenv.agents.beliefs.linear_logistic import LinearLogistic
from duelenv.agents.divergence import Diverged, finite
from duelenv.agents.losses import DPO
from duelenv.agents.roles import Duels, Sets
from duelenv.agents.set_losses import RewardDistillation
from duelenv.agents.trainer import Trainer, TrainerSettings

ROWS = 4
DUELS = Duels(np.arange(ROWS), np.array([[0, 1], [1, 2], [2, 0], [2, 1]]), np.array([1.0, 0.0, 0.5, 1.0]))


@dataclass(frozen=True)
class NoTies(DPO):
    """A loss that is `tie` where the label is a tie, and may have no gradient there; else DPO."""

    tie: float = float("nan")
    kink: bool = False

    def rows(self, batch):
        at_zero = batch.log_prob.sum(1) - batch.log_prob.sum(1).detach()
        tied = self.tie + (at_zero.abs().sqrt() if self.kink else at_zero)
        return torch.where(batch.label == 0.5, tied, super().rows(batch))


def world(**settings):
    env = make_vector("duelenv/AlignmentDuel-v0", ROWS, policy=tiny_policy(), horizon=9, num_candidates=3)
    return env, env.reset(seed=3)[0], duelenv.agents.make("passive", env, seed=1, **settings)


def weights(policy):
    return [parameter.detach().clone() for parameter in policy.parameters()]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("settings", [{}, {"max_grad_norm": None}, {"micro_batch": 1}, {"precision": "bfloat16"}])
@pytest.mark.parametrize(("tie", "kink", "named"), [("nan", True, [2]), ("inf", False, [2]), (1.0, True, [])])
def test_a_step_that_is_not_finite_is_not_taken(settings, tie, kink, named):
    """Whichever of loss and gradient it is."""
    _, observation, agent = world(**settings)
    learner = agent.learner
    learner.teach(observation, DUELS)  # moments, and a version
    before, version = weights(learner.policy), learner.policy.version
    moments = {k: {n: v.clone() for n, v in s.items()} for k, s in learner.trainer._optimizer.state.items()}
    good, learner.loss = learner.loss, NoTies(tie=float(tie), kink=kink)
    with pytest.raises(Diverged) as raised:
        learner.teach(observation, DUELS)
    assert same(weights(learner.policy), before) and learner.policy.version == version
    for master, state in learner.trainer._optimizer.state.items():
        assert master.grad is None and same(state.values(), moments[master].values())
    assert learner.gradient_steps == 1 and raised.value.step == 2
    assert raised.value.rows == named
    assert not finite(raised.value.loss, raised.value.gradient_norm)
    learner.loss = good
    learner.teach(observation, DUELS)
    assert learner.gradient_steps == 2 and not same(weights(learner.policy), before)


def test_the_sentence_names_round_batch_rows_and_what_to_change():
    env, observation, agent = world(learning_rate=0.25, max_grad_norm=None, precision="bfloat16")
    for _ in range(2):
        actions = agent.act(observation)
        following, *_, info = env.step(actions)
        labels = np.array([1.0, 0.5, 0.0, 0.5])
        if agent.gradient_steps == 1:
            break
        agent.update(observation, actions, labels, info["late"])
        observation = following
    agent.learner.loss = NoTies()
    with pytest.raises(Diverged) as raised:
        agent.update(observation, actions, labels, info["late"])
    assert isinstance(raised.value, UserError)
    prompt, norm = str(observation["prompt"][1])[:60], raised.value.gradient_norm
    assert str(raised.value) == (
        f"Gradient step 2 of the policy is not finite (loss nan, gradient norm {norm:g}) in round 1 on a batch of 4 "
        f"pairs, by itself in number 1, 3 of them (the first on the prompt {prompt!r}): it was not taken, and the "
        "state from before it is kept by the agent; set a smaller learning_rate (here 0.25), or clip gradients "
        "(max_grad_norm=1.0), or compute in precision='float32', or look at what those rows hold"
    )


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("steps", [0, 1])
def test_a_step_after_which_nothing_is_said_is_not_taken(precision, steps):
    """Loss and gradient are finite, and at this rate the next draw would be of logits that are not numbers."""
    env, observation, agent = world(learning_rate=1e9, precision=precision)
    learner = agent.learner
    if steps:  # moments are there to go back to
        learner.trainer._optimizer.param_groups[0]["lr"] = 1e-3
        learner.teach(observation, DUELS)
        learner.trainer._optimizer.param_groups[0]["lr"] = 1e9
    before, version = weights(learner.policy), learner.policy.version
    moments = {k: {n: v.clone() for n, v in s.items()} for k, s in learner.trainer._optimizer.state.items()}
    with pytest.raises(Diverged) as raised:
        learner.teach(observation, DUELS)
    error = raised.value
    assert error.afterwards == "log-probs" and finite(error.loss, error.gradient_norm) and error.step == steps + 1
    assert error.rows == [] and error.prompt is None  # no row is to blame
    assert same(weights(learner.policy), before)
    assert learner.policy.version == version and learner.gradient_steps == steps
    assert learner.trainer._optimizer.state.keys() == moments.keys()
    for master, state in learner.trainer._optimizer.state.items():
        assert master.grad is None and same(state.values(), moments[master].values())
    actions = agent.act(observation)
    assert np.isfinite(env.step(actions)[0]["log_prob"]).all()  # the next draw goes on
    half = " or compute in precision='float32'" if precision == "bfloat16" else ""
    assert str(error) == (
        f"Gradient step {steps + 1} of the policy is not finite (loss {error.loss:g}, gradient norm "
        f"{error.gradient_norm:g}; with the weights that it leads to, log-probs are not finite) on a batch of 4 pairs: "
        "it was not taken, and the state from before it is kept by the agent; set a smaller learning_rate (here 1e+09)"
        + (f",{half}" if half else "")
    )


def test_without_that_look_the_next_draw_is_what_fails(monkeypatch):
    """The control: what the look saves the caller from."""
    env, observation, agent = world(learning_rate=1e9)
    monkeypatch.setattr(agent.learner.trainer, "_leaps", False)
    agent.learner.teach(observation, DUELS)
    with pytest.raises(UserError, match="logits that are not numbers"):
        env.step(agent.act(observation))[0]["responses"]


def test_sets_are_looked_at_after_the_step_too():
    _, observation, agent = world(learning_rate=1e9)
    sets = Sets(np.array([0, 1]), np.array([[0, 1], [0, 2]]), np.array([[0.0, 1.0]] * 2), RewardDistillation(1.0))
    before = weights(agent.learner.policy)
    with pytest.raises(Diverged, match=r"log-probs are not finite\) on a batch of 2 sets of 2 responses: it was not"):
        agent.learner.teach_sets(observation, sets)
    assert same(weights(agent.learner.policy), before)


def test_a_step_within_the_size_of_the_weights_is_not_looked_at():
    """Holding the state and looking at the outcome cost as much as a step, and ordinary rates pay for neither."""
    policy = tiny_policy()
    flat = torch.cat([parameter.detach().flatten() for parameter in policy.parameters()])
    size = float(flat.square().mean().sqrt())
    for rate, leaps in ((0.99 * size, False), (1.01 * size, True)):
        assert Trainer(policy, TrainerSettings(learning_rate=rate))._leaps is leaps


def test_weights_alone_are_looked_at_where_nobody_says_what_comes_of_them():
    policy = tiny_policy()
    before, trainer = weights(policy), Trainer(policy, TrainerSettings(learning_rate=3e38, weight_decay=3e38))
    with pytest.raises(Diverged, match=r"Gradient step 1 .*log-probs are not finite"):
        trainer.train(lambda: [parameter.sum() for parameter in policy.parameters()], 1)
    assert same(weights(policy), before)


@pytest.mark.parametrize("replay", [0, 3])
def test_labels_of_a_failed_step_wait_on(replay):
    """In the state too: another agent that goes on from it takes their step with the next."""
    env, observation, agent = world(replay=replay)
    good = agent.learner.loss
    for number in range(3):
        actions = agent.act(observation)
        following, *_, info = env.step(actions)
        labels = np.array([1.0, 0.5, 0.0, 0.5])
        if number == 1:
            agent.learner.loss = NoTies()
            with pytest.raises(Diverged):
                agent.update(observation, actions, labels, info["late"])
            state = agent.state_dict()
            agent = duelenv.agents.make("passive", env, seed=1, replay=replay, learning_rate=1e-5)
            agent.load_state_dict(state)
            assert agent.learner.loss == good and agent.gradient_steps == 1
        else:
            agent.update(observation, actions, labels, info["late"])
        observation = following
    assert agent.gradient_steps == 3
    if replay:
        assert agent.learner._old._known == 3 * ROWS


def test_sets_are_named_as_pairs_are():
    _, observation, agent = world()
    values = np.array([[0.0, 1.0], [np.inf, 1.0], [0.0, 2.0]])
    sets = Sets(np.array([0, 1, 3]), np.array([[0, 1], [0, 1], [0, 2]]), values, RewardDistillation(1.0))
    before = weights(agent.learner.policy)
    with pytest.raises(Diverged, match=r"on a batch of 3 sets of 2 responses, by itself in number 1 of them") as raised:
        agent.learner.teach_sets(observation, sets)
    assert raised.value.prompt == observation["prompt"][1]
    assert same(weights(agent.learner.policy), before) and agent.learner.gradient_steps == 0


def test_a_belief_that_diverges_keeps_its_weights():
    belief = DeepEnsemble(3, batch=2, root=0, settings=DeepEnsembleSettings(heads=2, belief_learning_rate=1e30))
    features = np.random.default_rng(0).normal(size=(2, 20, 3)).astype(np.float32)
    for group in belief._optimizer.param_groups:  # moments are there to go back to
        group["lr"] = 1e-3
    belief._leaps = False
    belief.update(*features, np.ones(20))
    for group in belief._optimizer.param_groups:
        group["lr"] = 1e30
    belief._leaps = True
    before, steps = belief.state_dict(), belief._steps()
    with pytest.raises(Diverged) as raised:
        belief.update(*features, np.ones(20))
    assert str(raised.value) == (
        f"Gradient step {steps + 1} of the belief is not finite (loss {raised.value.loss:g}; with the weights that it "
        "leads to, utilities are not finite) on 64 draws from 40 labelled duels: it was not taken, and the state from "
        "before it is kept by the agent; set a smaller belief_learning_rate (here 1e+30)"
    )
    assert belief._steps() == steps and belief.num_labels == 40  # the labels wait on
    after = belief.state_dict()
    assert same(map(torch.tensor, after["layers"]), map(torch.tensor, before["layers"]))
    for number, moments in before["adam"].items():
        assert all(np.array_equal(after["adam"][number][key], value) for key, value in moments.items())
    assert np.isfinite(belief.mean(features[:, :4])).all()


def test_a_belief_that_leaps_is_looked_at_and_one_that_walks_is_not():
    """Where no step can leave the numbers, nothing is spent on looking."""
    make = lambda rate: DeepEnsemble(  # noqa: E731
        3, batch=2, root=0, settings=DeepEnsembleSettings(heads=2, belief_learning_rate=rate)
    )
    assert make(10.0)._leaps and not make(1e-3)._leaps
    features = np.random.default_rng(0).normal(size=(2, 20, 3)).astype(np.float32)
    with pytest.raises(Diverged, match=r"Gradient step 1 of the belief .* utilities are not finite"):
        make(1e30).update(*features, np.ones(20))
    belief = make(10.0)
    belief.update(*features, np.ones(20))  # far, and within the numbers
    assert belief._steps() > 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: DeepEnsemble(3, batch=4, root=0, settings=DeepEnsembleSettings(heads=2)),
        lambda: LastLayerLaplace(3, batch=4, root=0),
        lambda: LinearLogistic(3, replicates=1, batch=4, root=0),
    ],
)
def test_no_belief_learns_from_features_that_are_not_finite(make):
    belief = make()
    first, second = np.random.default_rng(0).normal(size=(2, 4, 3))
    second[2, 1], first[3, 0] = np.inf, np.nan
    with pytest.raises(UserError, match="features of 2 of 4 labelled duels are not finite, row 2 the first"):
        belief.update(first, second, np.ones(4))
    assert belief.num_labels == 0
    belief.update(first, second, np.array([1.0, 0.0, np.nan, np.nan]))  # what nobody learns from may be anything
    assert belief.num_labels == 2


def test_many_rows_are_counted_and_not_listed():
    error = Diverged("the policy", step=1, loss=1.0, gradient_norm=2.0, advice="x")
    error.rows = list(range(9))
    assert "in number 0, 1, 2, 3, 4, 5 and 3 more of them:" in str(error)
