"""What a step of the policy's learner is: held against the same step worked out slowly, term by term."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from worlds import make_vector, tiny_policy

import duelenv.agents
from duelenv import UserError
from duelenv.agents.losses import LOSSES, make_loss
from duelenv.agents.pieces import Piece
from duelenv.agents.roles import Duels
from duelenv.agents.trainer import Trainer, TrainerSettings

ALIGNMENT = "duelenv/AlignmentDuel-v0"
ROWS = 4


def world(**settings):
    settings = {"sources": {"policy": 2, "reference": 3}, "num_candidates": None, **settings}
    env = make_vector(ALIGNMENT, ROWS, policy=tiny_policy(), horizon=9, **settings)
    return env, env.reset(seed=3)[0]


def learner_of(env, **settings):
    agent = duelenv.agents.make("passive", env, seed=1, **settings)
    return agent.learner


def some_duels(labels=(1.0, 0.0, 0.5, 1.0)):
    return Duels(np.arange(ROWS), np.array([[0, 3], [1, 2], [4, 0], [2, 1]]), np.array(labels))


def gradients_of_steps(learner, monkeypatch):
    """Lists that fill with the gradient of every step, as one vector before clipping and one after."""
    before, after = [], []
    clip, step = torch.nn.utils.clip_grad_norm_, learner.trainer._optimizer.step

    def flat():
        return torch.cat([parameter.grad.flatten() for parameter in learner.policy.parameters()]).double()

    def watched(parameters, limit):
        before.append(flat())
        return clip(parameters, limit)

    def stepped():
        after.append(flat())
        return step()

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", watched)
    monkeypatch.setattr(learner.trainer._optimizer, "step", stepped)
    return before, after


def scored(policy, observation, row, column, role, prompt=None):
    """log-prob of one response, with gradient for the policy."""
    prompt = observation["prompt"][row] if prompt is None else prompt
    place = np.ix_([row], [column])
    tokens, mask = observation["tokens"][place], observation["mask"][place]
    if role == "reference":
        return policy.reference_log_prob([prompt], tokens, mask)[0, 0]
    return policy.log_prob([prompt], tokens, mask)[0, 0]


def slow_objective(policy, observation, duels, name, beta, alpha=0.0, z0=None, rivals=(2, 3, 4)):
    """The mean loss over duels plus SELM's bonus, from the papers' formulas, one response at a time."""
    total = torch.zeros(())
    for row, (first, second), label in zip(duels.rows, duels.pairs, duels.labels, strict=True):
        both = {}
        for side, column in (("first", first), ("second", second)):
            both[side] = scored(policy, observation, row, column, "policy") - scored(
                policy, observation, row, column, "reference"
            )
            both[f"{side} alone"] = scored(policy, observation, row, column, "policy")
            both[f"{side} length"] = float(observation["mask"][row, column].sum())
        for winner, loser, weight in (("first", "second", label), ("second", "first", 1 - label)):
            h = both[winner] - both[loser]
            if name == "dpo":
                loss = -torch.log(torch.sigmoid(beta * h))
            elif name == "ipo":
                loss = (h - 1 / (2 * beta)) ** 2
            elif name == "simpo":
                means = [both[f"{side} alone"] / both[f"{side} length"] for side in (winner, loser)]
                loss = -torch.log(torch.sigmoid(beta * (means[0] - means[1]) - 1.0))
            else:  # KTO
                won = 1 - torch.sigmoid(beta * (both[winner] - z0))
                loss = (won + 1 - torch.sigmoid(beta * (z0 - both[loser]))) / 2
            total = total + weight * loss / len(duels)
        for rival in rivals:  # candidates of the reference
            ratio = scored(policy, observation, row, rival, "policy")
            ratio = ratio - scored(policy, observation, row, rival, "reference")
            total = total + alpha * beta * ratio / (len(rivals) * len(duels))
    return total


def slow_gradient(policy, *arguments, **settings):
    for parameter in policy.parameters():
        parameter.grad = None
    slow_objective(policy, *arguments, **settings).backward()
    found = torch.cat([parameter.grad.flatten() for parameter in policy.parameters()]).double()
    for parameter in policy.parameters():
        parameter.grad = None
    return found


def slow_z0(policy, observation, duels, others):
    """max(0, mean log-ratio) of all responses given the prompts of other rows."""
    ratios = [
        float(scored(policy, observation, row, column, "policy", prompt).detach())
        - float(scored(policy, observation, row, column, "reference", prompt))
        for row, pair, other in zip(duels.rows, duels.pairs, others, strict=True)
        for prompt in [observation["prompt"][other]]
        for column in pair
    ]
    return max(0.0, float(np.mean(ratios)))


def away_from_the_start(policy):
    """Weights that are not the reference's, so that no log-ratio is 0."""
    with torch.no_grad():
        for number, parameter in enumerate(policy.parameters()):
            parameter += 0.01 * torch.sin(torch.arange(parameter.numel()) + number).reshape(parameter.shape)


# The objective -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("micro_batch", [None, 1, 3])
@pytest.mark.parametrize(
    ("name", "beta", "alpha", "draws"),
    [
        ("dpo", 0.3, 0.0, None),
        ("dpo", 0.3, 0.7, 1),
        ("dpo", 0.3, 0.7, 2),
        ("dpo", 0.3, 0.7, None),
        ("ipo", 0.5, 0.2, None),
        ("simpo", 2.0, 0.0, None),
    ],
)
def test_a_step_follows_the_gradient_of_loss_and_bonus(monkeypatch, micro_batch, name, beta, alpha, draws):
    env, observation = world()
    bonus = {"bonus": "selm", "bonus_settings": {"alpha": alpha}, "bonus_draws": draws} if alpha else {}
    learner = learner_of(env, loss=name, beta=beta, micro_batch=micro_batch, **bonus)
    observation = {name: observation[name] for name in ("prompt", "responses", "tokens", "mask", "source")}
    away_from_the_start(learner.policy)
    duels = some_duels()
    expected = slow_gradient(learner.policy, observation, duels, name, beta, alpha, rivals=(2, 3, 4)[:draws])
    before, _ = gradients_of_steps(learner, monkeypatch)
    figures = learner.teach(observation, duels)
    torch.testing.assert_close(before[0], expected, rtol=1e-3, atol=1e-6)
    assert figures["gradient_norm"] == pytest.approx(float(expected.norm()), rel=1e-3)
    assert learner.gradient_steps == 1


@pytest.mark.parametrize("micro_batch", [None, 1, 3])
def test_kto_compares_with_all_responses_given_other_prompts_anew_in_each_step(monkeypatch, micro_batch):
    env, observation = world()
    learner = learner_of(env, loss="kto", beta=0.4, micro_batch=micro_batch, gradient_steps=2, learning_rate=0.02)
    prompts = observation["prompt"].copy()
    prompts[1] = prompts[0]  # a neighbour with the same prompt is no other
    observation = {name: observation[name] for name in ("responses", "tokens", "mask", "source")} | {"prompt": prompts}
    away_from_the_start(learner.policy)
    duels = some_duels()
    others = [2, 2, 3, 0]
    assert all(prompts[row] != prompts[other] for row, other in enumerate(others))
    before, _ = gradients_of_steps(learner, monkeypatch)
    twin = learner.policy.clone()
    seen = []
    log_prob = learner.policy.log_prob

    def watched(*arguments):  # the weights of every pass
        seen.append(learner.policy.version)
        return log_prob(*arguments)

    monkeypatch.setattr(learner.policy, "log_prob", watched)
    weights = [twin.state_dict()]
    update = learner.policy.updated
    monkeypatch.setattr(learner.policy, "updated", lambda: (update(), weights.append(learner.policy.state_dict())))
    learner.teach(observation, duels)
    found_z0 = []
    for step in range(2):
        twin.load_state_dict(weights[step])
        z0 = slow_z0(twin, observation, duels, others)
        found_z0.append(z0)
        expected = slow_gradient(twin, observation, duels, "kto", 0.4, z0=z0)
        torch.testing.assert_close(before[step], expected, rtol=2e-3, atol=1e-6)
    assert abs(found_z0[0] - found_z0[1]) > 1e-3  # so that an old one would have been seen


def test_kto_makes_nothing_of_labels_under_one_prompt():
    env, observation = world()
    learner = learner_of(env, loss="kto")
    only = Duels(np.array([2]), np.array([[0, 3]]), np.array([1.0]))
    before = learner.policy.state_dict()["model"]
    assert learner.teach(observation, only) == {"skipped": 1.0, "alike_pairs": 0.0}
    assert learner.gradient_steps == 0
    assert all(torch.equal(before[name], value) for name, value in learner.policy.state_dict()["model"].items())


def test_a_policy_at_its_reference_has_log_ratio_zero_in_any_pieces():
    for micro_batch in (None, 1, 2, 3):
        env, observation = world()
        learner = learner_of(env, micro_batch=micro_batch)
        figures = learner.teach(observation, some_duels())
        assert figures["loss"] == pytest.approx(math.log(2), abs=1e-7)
        assert figures["accuracy"] == 0.5


def test_accuracy_is_that_before_the_steps_were_taken():
    """How often the policy's own reward agrees with decided labels; half for a tie."""
    env, observation = world()
    learner = learner_of(env, gradient_steps=3, learning_rate=0.05)
    away_from_the_start(learner.policy)
    reward = learner.implicit_reward(observation)
    duels = some_duels()
    gaps = reward[duels.rows, duels.pairs[:, 0]] - reward[duels.rows, duels.pairs[:, 1]]
    against = Duels(duels.rows, duels.pairs, (gaps < 0).astype(float))  # every label against the policy
    assert learner.teach(observation, against)["accuracy"] == 0.0
    gaps = learner.implicit_reward(observation)
    gaps = gaps[duels.rows, duels.pairs[:, 0]] - gaps[duels.rows, duels.pairs[:, 1]]
    labels = (gaps > 0).astype(float)
    labels[1] = 0.5
    assert learner.teach(observation, Duels(duels.rows, duels.pairs, labels))["accuracy"] == 0.875


@pytest.mark.parametrize(("draws", "responses"), [(None, 4), (3, 4), (2, 4), (1, 3)])
def test_the_bonus_is_spread_over_the_pieces(monkeypatch, draws, responses):
    """No pass with gradients holds more prompts than a piece, nor runs a prompt or a response twice."""
    env, observation = world()
    learner = learner_of(env, micro_batch=1, bonus="selm", bonus_draws=draws)
    passes = []
    log_prob = learner.policy.log_prob
    monkeypatch.setattr(
        learner.policy,
        "log_prob",
        lambda prompts, tokens, mask: (passes.append(tokens.shape[:2]), log_prob(prompts, tokens, mask))[1],
    )
    figures = learner.teach(observation, some_duels())
    assert passes == [(1, responses)] * ROWS
    assert figures["bonus"] == pytest.approx(0.0, abs=1e-6)  # at the reference


@pytest.mark.parametrize("alpha", [0.01, 0.5])
def test_the_bonus_pulls_with_two_alpha_of_the_loss_at_the_start(alpha):
    env, observation = world()
    learner = learner_of(env, micro_batch=3, bonus="selm", bonus_settings={"alpha": alpha}, beta=0.2, bonus_draws=2)
    figures = learner.teach(observation, some_duels([1.0, 0.0, 1.0, 0.0]))
    # Candidates that are in a pair too pull there and as what the bonus looks at.
    assert figures["bonus_gradient_ratio"] == pytest.approx(2 * alpha, rel=1e-4)


def test_the_reference_speaks_at_temperature_one(monkeypatch):
    env, observation = world(temperature=0.4)
    learner = learner_of(env, bonus="selm", bonus_draws=2)
    assert observation["tokens"].shape[1] == 5  # the candidates are there by now
    drawn = []
    sample = learner.policy.sample

    def watched(prompts, count, **settings):
        found = sample(prompts, count, **settings)
        drawn.append((settings["source"], settings["temperature"], found.tokens))
        return found

    monkeypatch.setattr(learner.policy, "sample", watched)
    lesson = learner._lesson(observation, some_duels(), asked=True)
    ((source, temperature, tokens),) = drawn
    assert (source, temperature) == ("reference", 1.0)
    np.testing.assert_array_equal(lesson.tokens[:, 2:], tokens)
    assert lesson.tokens.shape[1] == 2 + 2
    again = learner._lesson(observation, some_duels(), asked=True)
    assert (again.tokens[:, 2:] != lesson.tokens[:, 2:]).any()  # new ones every time

    env, observation = world(temperature=1.0)
    learner = learner_of(env, bonus="selm", bonus_draws=2)
    assert observation["tokens"].shape[1] == 5
    monkeypatch.setattr(learner.policy, "sample", None)
    lesson = learner._lesson(observation, some_duels(), asked=True)
    each = np.arange(ROWS)[:, np.newaxis]
    np.testing.assert_array_equal(lesson.tokens[each, lesson.bonus], observation["tokens"][:, 2:4])
    np.testing.assert_array_equal(lesson.mask[each, lesson.bonus], observation["mask"][:, 2:4])


def test_a_loss_without_a_reference_makes_no_pass_of_it(monkeypatch):
    env, observation = world()
    learner = learner_of(env, loss="simpo", bonus="xpo")
    monkeypatch.setattr(learner.policy, "reference_log_prob", None)
    score = learner.policy.score
    monkeypatch.setattr(
        learner.policy, "score", lambda *arguments, source="policy": score(*arguments) if source == "policy" else None
    )
    assert 0.0 <= learner.teach(observation, some_duels())["accuracy"] <= 1.0
    length = observation["mask"].sum(-1)
    expected = 2.0 * score(list(observation["prompt"]), observation["tokens"], observation["mask"]) / length
    np.testing.assert_allclose(learner.implicit_reward(observation), expected, rtol=1e-5)


@pytest.mark.parametrize(("name", "beta"), [("dpo", None), ("dpo", 0.7), ("slic", None), ("ipo_mean", 0.3)])
def test_the_implicit_reward_is_beta_times_the_log_ratio(name, beta):
    env, observation = world()
    learner = learner_of(env, loss=name, **({} if beta is None else {"beta": beta}))
    away_from_the_start(learner.policy)
    given = list(observation["prompt"]), observation["tokens"], observation["mask"]
    ratio = learner.policy.score(*given) - learner.policy.score(*given, source="reference")
    length = observation["mask"].sum(-1) if name == "ipo_mean" else 1
    scale = {"dpo": 0.1, "slic": 0.2}.get(name) if beta is None else beta
    np.testing.assert_allclose(learner.implicit_reward(observation), scale * ratio / length, rtol=1e-5, atol=1e-6)
    assert np.abs(ratio).max() > 0.01


# Steps ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "clipped"), [(1e-3, True), (1e3, False), (None, False)])
def test_gradients_are_clipped_to_their_norm(monkeypatch, limit, clipped):
    env, observation = world()
    learner = learner_of(env, max_grad_norm=limit)
    before, after = gradients_of_steps(learner, monkeypatch)
    learner.teach(observation, some_duels())
    if clipped:
        assert float(after[0].norm()) == pytest.approx(limit, rel=1e-3)
        torch.testing.assert_close(after[0] / limit, before[0] / before[0].norm(), rtol=1e-3, atol=1e-6)
    else:
        torch.testing.assert_close(after[0], before[0])
        assert float(after[0].norm()) > 1e-3


def test_no_label_is_no_step(monkeypatch):
    """An empty step would move the weights by the optimiser's memory and by weight decay."""
    env, observation = world()
    learner = learner_of(env, weight_decay=0.5)
    learner.teach(observation, some_duels())
    before = learner.policy.state_dict()["model"]
    nothing = np.full(ROWS, np.nan)
    assert learner.teach(observation, some_duels(nothing)) == {}
    asked = np.full(ROWS, ROWS)
    assert learner.learn([Piece(observation, some_duels().pairs, nothing, np.zeros(ROWS, int), asked)]) == {}
    assert learner.trainer.train(lambda: iter(()), 3) == []
    assert learner.gradient_steps == 1
    assert all(torch.equal(before[name], value) for name, value in learner.policy.state_dict()["model"].items())


def test_a_learner_goes_on_where_its_state_was_taken():
    """With a bonus of own draws, and a lesson that waits."""
    made = []
    for _ in range(2):
        env, observation = world(temperature=0.5)
        made.append((learner_of(env, bonus="selm", gradient_steps=1), observation))
    (one, observation), (other, _) = made
    one.teach(observation, some_duels())
    waiting = one._lesson(observation, some_duels(), asked=True)
    one._waiting.add(waiting, np.zeros(4, int), np.arange(4), [Fraction(1, 8)] * 4)
    state = one.state_dict()
    one.teach(observation, some_duels())
    other.load_state_dict(state)
    other.teach(observation, some_duels())
    after = other.policy.state_dict()["model"]
    assert all(torch.equal(after[name], value) for name, value in one.policy.state_dict()["model"].items())
    assert len(other._waiting) == 4


def test_texts_from_elsewhere_have_draws_of_the_reference_too():
    env, observation = world()
    learner = learner_of(env, bonus="selm")
    shown = env.unwrapped.show(observation["prompt"], observation["responses"])
    assert learner._lesson(shown, some_duels(), asked=True).tokens.shape[1] == 2 + 1


def test_lower_precision_computes_nearly_the_same(monkeypatch):
    gradients = {}
    for precision in ("float32", "bfloat16"):
        env, observation = world()
        learner = learner_of(env, precision=precision)
        with monkeypatch.context() as patched:
            before, _ = gradients_of_steps(learner, patched)
            figures = learner.teach(observation, some_duels([1.0, 0.0, 1.0, 1.0]))
        gradients[precision] = before[0]
        assert figures["loss"] == pytest.approx(math.log(2), abs=1e-6)  # the reference rounds alike
        assert all(parameter.dtype == torch.float32 for parameter in learner.policy.parameters())
    difference = (gradients["bfloat16"] - gradients["float32"]).norm() / gradients["float32"].norm()
    assert 1e-6 < float(difference) < 0.1


def test_a_moved_reference_says_which_version_it_is():
    env, observation = world()
    assert (observation["policy_version"][:, 2:] == 0).all()
    learner = learner_of(env, reference="moving", reference_every=2)
    versions = []
    for _ in range(5):
        actions = np.tile([0, 3], (ROWS, 1))
        piece = Piece(observation, actions, np.ones(ROWS), np.zeros(ROWS, int), np.full(ROWS, ROWS))
        learner.learn([piece])
        observation = env.step(actions)[0]
        versions.append((observation["policy_version"][0, 0], observation["policy_version"][0, 4]))
    assert versions == [(1, 0), (2, 2), (3, 2), (4, 4), (5, 4)]
    state = learner.policy.state_dict()
    other = tiny_policy()
    other.load_state_dict(state)
    assert (other.version, other.reference_version) == (5, 4)


# Settings ------------------------------------------------------------------------------------------------------------


def test_every_loss_has_its_own_beta():
    for name in LOSSES:
        env, _ = world()
        assert learner_of(env, loss=name).loss == make_loss(name)
        assert learner_of(env, loss=name, beta=0.35).loss == make_loss(name, beta=0.35)
        assert learner_of(env, loss=name, loss_settings={"beta": 0.35}).loss == make_loss(name, beta=0.35)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beta": 0.1, "loss_settings": {"beta": 0.2}}, "beta is 0.1, and loss_settings has 0.2 too; give one of them"),
        ({"beta": 0}, "beta is 0, expected a number above 0"),
        ({"beta": "x"}, "beta is 'x', expected a number"),
        (
            {"loss": "flat_of_this_test", "beta": 0.1},
            "beta is 0.1, and loss 'flat_of_this_test' has none; leave it out",
        ),
        ({"loss": "flat_of_this_test", "bonus": "selm"}, "bonus 'selm' needs a beta, and loss 'flat_of_this_test' has"),
        ({"loss": "dop"}, "loss 'dop' is unknown: did you mean 'dpo'"),
        ({"loss_settings": 3}, "loss_settings is 3, expected a mapping"),
        ({"max_grad_norm": 0}, "max_grad_norm is 0, expected a number above 0"),
        ({"max_grad_norm": -1.0}, "max_grad_norm is -1.0, expected a number above 0"),
        ({"micro_batch": 0}, "micro_batch is 0"),
        ({"precision": "float16"}, "precision='float16' is unknown: did you mean 'bfloat16'"),
        ({"bonus": "slem"}, "bonus 'slem' is unknown: did you mean 'selm'"),
        ({"bonus_settings": {"alpha": 1.0}}, "without a bonus"),
        ({"bonus_draws": 2}, "bonus_draws is 2 without a bonus"),
        ({"bonus_draws": 0, "bonus": "selm"}, "bonus_draws is 0, expected"),
        ({"bonus_draws": 4, "bonus": "selm"}, "bonus_draws=4 is more than the 3 candidates that come from the ref"),
        ({"bonus": "xpo", "bonus_settings": {"beta": 1.0}}, "bonus 'xpo' has no setting 'beta'"),
        ({"reference_every": 3}, "reference_every=3 is read only with reference='moving'"),
    ],
)
def test_a_wrong_setting_is_one_sentence(monkeypatch, settings, message):
    from duelenv.agents.losses import PreferenceLoss

    class Flat(PreferenceLoss):
        def first_won(self, batch):
            return batch.log_prob[:, 0]

    monkeypatch.setattr(LOSSES, "_parts", {**LOSSES._parts, "flat_of_this_test": Flat})
    env, _ = world()
    with pytest.raises(UserError, match=message):
        learner_of(env, **settings)


def test_a_bonus_needs_responses_of_the_reference():
    env, _ = world(sources={"policy": 4})
    with pytest.raises(UserError, match="a bonus pushes down what the reference says, and the candidates come from"):
        learner_of(env, bonus="xpo")


def test_a_trainer_minimises_what_it_is_given():
    """Not a preference in sight: the log-prob of one response rises."""
    env, observation = world()
    policy = env.unwrapped.view().policy
    trainer = Trainer(policy, TrainerSettings(learning_rate=0.01))
    given = [observation["prompt"][0]], observation["tokens"][:1, :1], observation["mask"][:1, :1]
    before = policy.score(*given)[0, 0]
    norms = trainer.train(lambda: [-policy.log_prob(*given)[0, 0]], 5)
    assert len(norms) == trainer.gradient_steps == policy.version == 5
    assert policy.score(*given)[0, 0] > before + 0.1


@pytest.mark.parametrize(
    ("micro_batch", "width", "sizes"),
    [(None, 8, [10]), (4, 2, [4, 4, 2]), (4, 3, [2] * 5), (4, 8, [1] * 10), (4, 20, [1] * 10)],
)
def test_a_piece_holds_as_many_responses_as_so_many_pairs(micro_batch, width, sizes):
    trainer = Trainer(tiny_policy(), TrainerSettings(micro_batch=micro_batch))
    assert [part.stop - part.start for part in trainer.pieces(10, width)] == sizes


# Weights of low precision ---------------------------------------------------------------------------------------------


def half_precision_policy():
    policy = tiny_policy()
    policy.model.to(torch.bfloat16)
    return policy


def push(policy, trainer, steps, sign=1.0):
    """Steps along a fixed gradient, made of all weights."""

    def terms():
        yield sign * sum(weights.float().sum() for weights in policy.parameters())

    trainer.train(terms, steps)


def test_small_steps_add_up_in_low_precision():
    """A step of 1e-6 moves few weights in bfloat16; of what many come to nothing may be lost."""
    start = [weights.detach().float().clone() for weights in half_precision_policy().parameters()]
    policy = half_precision_policy()
    trainer = Trainer(policy, TrainerSettings(learning_rate=1e-6, max_grad_norm=None))
    push(policy, trainer, 20)
    masters = [master for _, master in trainer._masters]
    moved = torch.cat([(one - two).flatten() for one, two in zip(start, masters, strict=True)])
    assert float((moved > 0).float().mean()) > 0.99
    assert float(moved.median()) == pytest.approx(20e-6, rel=0.05)
    for weights, master in trainer._masters:
        assert weights.dtype == torch.bfloat16
        assert torch.equal(weights, master.to(torch.bfloat16))
    plain = half_precision_policy()
    optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-6, weight_decay=0.0)
    for _ in range(20):
        optimizer.zero_grad()
        sum(weights.float().sum() for weights in plain.parameters()).backward()
        optimizer.step()
    stayed = torch.cat([(one == two).flatten() for one, two in zip(start, plain.parameters(), strict=True)])
    assert float(stayed.float().mean()) > 0.9  # the control: without the copies nearly nothing moves


def test_what_low_precision_rounds_away_is_in_the_state():
    runs = []
    for resumed in (False, True):
        policy = half_precision_policy()
        trainer = Trainer(policy, TrainerSettings(learning_rate=1e-5))
        push(policy, trainer, 3)
        if resumed:
            state = trainer.state_dict()
            policy = half_precision_policy()
            trainer = Trainer(policy, TrainerSettings(learning_rate=1e-5))
            trainer.load_state_dict(state)
        push(policy, trainer, 3)
        runs.append([master.detach().clone() for _, master in trainer._masters])
    assert all(torch.equal(one, two) for one, two in zip(*runs, strict=True))


def test_weights_of_full_precision_are_trained_themselves():
    policy = tiny_policy()
    trainer = Trainer(policy, TrainerSettings())
    assert all(weights is master for weights, master in trainer._masters)
    assert trainer.state_dict()["masters"] == []


def test_a_rate_too_small_to_move_weights_draws_a_warning():
    with pytest.warns(UserWarning, match="less than half of what separates a typical weight .* take a larger one"):
        Trainer(tiny_policy(), TrainerSettings(learning_rate=1e-12))


def test_a_policy_without_trainable_weights_is_refused():
    policy = tiny_policy()
    policy.model.requires_grad_(False)
    with pytest.raises(UserError, match="the policy has no weights that train"):
        Trainer(policy, TrainerSettings())


# Responses of the same text -------------------------------------------------------------------------------------------


def same_texts(observation, rows):
    """The observation as if all candidates of some rows said the same, in tokens of their own."""
    said = observation["responses"].copy()
    said[rows] = "the same"
    return {name: observation[name] for name in observation if name != "responses"} | {"responses": said}


@pytest.mark.parametrize("micro_batch", [None, 1])
@pytest.mark.parametrize("loss", sorted(LOSSES.names()))
def test_a_pair_of_equal_texts_counts_in_the_mean_and_adds_nothing(monkeypatch, loss, micro_batch):
    """Its label is a coin: the gradient is that of the others' sum, over all; whichever way the coin fell."""
    _, observation = world()
    observation = {name: observation[name] for name in ("prompt", "responses", "tokens", "mask", "source")}
    alike = same_texts(observation, [2])

    def taught(shown, labels, pieces):
        env, _ = world()
        learner = learner_of(env, loss=loss, micro_batch=pieces, max_grad_norm=None)
        away_from_the_start(learner.policy)
        with monkeypatch.context() as patched:
            before, _ = gradients_of_steps(learner, patched)
            figures = learner.teach(shown, some_duels(labels))
        assert learner.gradient_steps == 1
        return before[0], figures

    (one, figures), (other, _) = (taught(alike, (1.0, 0.0, y, 1.0), micro_batch) for y in (0.0, 1.0))
    assert figures["alike_pairs"] == 1.0
    torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert one.isfinite().all() and one.abs().max() > 0
    if loss != "kto":  # whose z0 is over the responses of all rows
        without, others = taught(observation, (1.0, 0.0, float("nan"), 1.0), None)
        torch.testing.assert_close(one * 4 / 3, without, rtol=1e-3, atol=1e-6)
        assert figures["loss"] == pytest.approx(others["loss"], rel=1e-4)  # of the pairs that say something
        assert figures["accuracy"] == pytest.approx(others["accuracy"])


@pytest.mark.parametrize("loss", sorted(LOSSES.names()))
def test_the_same_tokens_twice_have_no_gradient_under_any_loss(loss):
    """So that leaving them out changes nothing but what equal texts of different tokens would add."""
    made = make_loss(loss)
    log_prob = torch.tensor([[-3.0, -3.0], [-1.0, -1.0]], requires_grad=True)
    shared = log_prob[:, :1].expand(-1, 2)  # one response's log-prob, read twice
    batch = made.batch_type(
        log_prob=shared,
        label=torch.tensor([1.0, 0.0]),
        length=torch.full((2, 2), 4),
        reference_log_prob=torch.tensor([[-2.0, -2.0], [-2.5, -2.5]]),
        mismatched_log_ratio=torch.tensor(0.3),
    )
    made(batch).backward()
    assert log_prob.grad.abs().max() < 1e-7


def test_labels_of_equal_texts_alone_make_no_step_but_with_a_bonus():
    env, observation = world()
    alike = same_texts(observation, [0, 1, 2, 3])
    learner = learner_of(env)
    before = [weights.detach().clone() for weights in learner.policy.parameters()]
    assert learner.teach(alike, some_duels()) == {"alike_pairs": 4.0}
    piece = Piece(alike, some_duels().pairs, some_duels().labels, np.zeros(ROWS, int), np.full(ROWS, ROWS))
    assert learner.learn([piece]) == {"alike_pairs": 4.0}
    assert learner.gradient_steps == 0
    assert all(torch.equal(a, b) for a, b in zip(before, learner.policy.parameters(), strict=True))
    assert len(learner._waiting) == 0  # they have had their share
    optimist = learner_of(env, bonus="selm", bonus_settings={"alpha": 0.5})
    figures = optimist.teach(alike, some_duels())
    assert figures["loss"] == 0.0 and figures["alike_pairs"] == 4.0 and optimist.gradient_steps == 1
    assert np.isfinite(figures["bonus"]) and figures["gradient_norm"] > 0
