"""What a bonus is taken over: without bias whoever duels, and no response run twice."""

import numpy as np
import pytest
import torch
from worlds import make_vector

import duelenv.agents
from duelenv.agents.base import SettingsReader
from duelenv.agents.learners import PreferenceLearner
from duelenv.agents.lessons import Lesson, OldLessons, WaitingLessons
from duelenv.agents.pieces import Piece
from duelenv.agents.reference_draws import ReferenceDraws
from duelenv.agents.roles import Duels

ALIGNMENT = "duelenv/AlignmentDuel-v0"
ROWS = 512
SOURCES = {"policy": 2, "reference": 3}
OF_REFERENCE = (2, 3, 4)


@pytest.fixture(scope="module")
def rounds():
    """Rounds of one prompt and one token, of a policy near its reference: half of all duels could be of equal texts.

    Returns:
        The environment, its agent, what was shown and played, and of every token its probability under the reference
        and d log pi(token) along the gradient of the likeliest one.
    """
    from duelenv.policies import CausalLMPolicy, tiny_model

    model, tokenizer = tiny_model("gpt_neox", 0)
    with torch.no_grad():
        model.get_output_embeddings().weight *= 10
    policy = CausalLMPolicy(model, tokenizer, max_new_tokens=1)
    with torch.no_grad():
        for number, weights in enumerate(policy.parameters()):
            weights += 0.002 * torch.sin(torch.arange(weights.numel()) + number).reshape(weights.shape)
    policy.updated()
    prompts = ["how is the king"]
    env = make_vector(
        ALIGNMENT, ROWS, policy=policy, prompts=prompts, test_prompts=prompts, sources=SOURCES, num_candidates=None
    )
    agent = duelenv.agents.make("selm", env, seed=1)
    observation, _ = env.reset(seed=2)
    shown = []
    for _ in range(12):
        pairs = agent.act(observation)
        shown.append(({name: observation[name] for name in ("prompt", "responses", "tokens", "mask", "source")}, pairs))
        observation = env.step(pairs)[0]
    everything = np.arange(policy.vocabulary_size).reshape(1, -1, 1)
    probability = np.exp(policy.reference_log_prob(prompts, everything, np.ones_like(everything))[0].numpy())
    log_prob = policy.log_prob(prompts, everything, np.ones_like(everything))[0]
    gradients = [flat(torch.autograd.grad(each, policy.parameters(), retain_graph=True)) for each in log_prob]
    gradients = torch.stack(gradients)
    along = gradients @ gradients[probability.argmax()]
    assert 0.3 < probability.max() < 0.8
    return env, agent, shown, probability.astype(np.float64), along.double().numpy()


def flat(gradients):
    return torch.cat([gradient.flatten() for gradient in gradients])


def deviations(tokens, probability, values):
    """By how many standard errors the mean of values of drawn tokens [..., B] is off their expectation."""
    found = values[tokens].mean(-1).ravel()  # of a row
    return (found.mean() - probability @ values) / (found.std() / np.sqrt(len(found)))


def drawn_tokens(lesson):
    return lesson.tokens[np.arange(len(lesson))[:, None], lesson.bonus, 0]


def by_utility(observation, pairs):
    """The same duels, but the reference sends the one of its candidates that the policy likes best."""
    likely = np.bincount(observation["tokens"].ravel(), minlength=observation["tokens"].max() + 1)
    best = 2 + likely[observation["tokens"][:, 2:, 0]].argmax(1)
    return np.column_stack([pairs.min(1), best])


@pytest.mark.parametrize("count", [1, 2, None])
@pytest.mark.parametrize(("rule", "knows"), [("selm", True), ("selm", False), ("by utility", False)])
def test_a_bonus_is_without_bias_whoever_duels(rounds, rule, knows, count):
    env, _, shown, probability, values = rounds
    draws = ReferenceDraws(env.view(), 0, count, duel_is_draw=knows)
    found = []
    for observation, pairs in shown:
        pairs = pairs if rule == "selm" else by_utility(observation, pairs)
        tokens, mask = draws.of(observation, Duels(np.arange(ROWS), pairs, np.ones(ROWS)), asked=True)
        assert tokens.shape == (ROWS, count or 3, 1) and mask.all()
        found.append(tokens[:, :, 0])
    assert abs(deviations(np.concatenate(found), probability, values)) < 4


def test_the_duels_own_response_alone_would_be_biased(rounds):
    """Why a fixed draw is kept: even who is chosen uniformly among other texts says the rival's text too seldom."""
    env, _, shown, probability, values = rounds
    each = np.arange(ROWS)
    own, chosen, wrongly_known = [], [], []
    lie = ReferenceDraws(env.view(), 0, 1, duel_is_draw=True)
    for observation, pairs in shown:
        own.append(observation["tokens"][each, pairs.max(1), 0])
        pairs = by_utility(observation, pairs)
        chosen.append(observation["tokens"][each, pairs[:, 1], 0])
        wrongly_known.append(lie.of(observation, Duels(each, pairs, np.ones(ROWS)), asked=True)[0][:, 0, 0])
    for tokens in (own, chosen, wrongly_known):
        assert abs(deviations(np.concatenate(tokens)[:, None], probability, values)) > 8


def test_the_gradient_of_the_bonus_is_that_of_its_expectation(rounds, monkeypatch):
    """Exactly listed, against what the steps of `selm` come to, with and without the bonus."""
    env, _, shown, probability, values = rounds
    policy = env.view().policy
    state, clip = policy.state_dict(), torch.nn.utils.clip_grad_norm_
    found = {}
    for alpha in (0.0, 1.0):
        gradients = []

        def watched(parameters, limit, gradients=gradients):
            parameters = list(parameters)
            gradients.append(flat(parameter.grad for parameter in parameters))
            return clip(parameters, limit)

        monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", watched)
        settings = {"bonus": "xpo", "bonus_settings": {"alpha": alpha}}
        learner = PreferenceLearner.of(env.view(), 0, SettingsReader("x", settings), duel_is_draw=True)
        for observation, pairs in shown:
            policy.load_state_dict(state)
            duels = np.zeros(ROWS, int), np.full(ROWS, ROWS)
            learner.learn([Piece(observation, pairs, np.arange(ROWS) % 2.0, *duels)])
        found[alpha] = torch.stack(gradients).mean(0)
    policy.load_state_dict(state)
    best = np.array([[[probability.argmax()]]])
    log_prob = policy.log_prob(["how is the king"], best, np.ones_like(best)).sum()
    direction = flat(torch.autograd.grad(log_prob, policy.parameters()))
    along = float((found[1.0] - found[0.0]) @ direction)
    spread = np.sqrt(probability @ values**2 - (probability @ values) ** 2) / np.sqrt(len(shown) * ROWS)
    assert abs(along - probability @ values) < 4 * spread
    assert spread < 0.05 * np.abs(values).max()


def test_selm_runs_no_more_than_its_pairs(rounds):
    """Its bonus is over one draw, which is one of the pair, or says what one of the pair says."""
    _, agent, shown, _, _ = rounds
    learner = agent.learner
    own = []
    for observation, pairs in shown:
        duels = Duels(np.arange(ROWS), pairs, np.ones(ROWS))
        lesson = learner._lesson(observation, duels, asked=True)
        assert lesson.tokens.shape[1] == 2 and lesson.bonus.shape == (ROWS, 1)
        own.append(pairs[np.arange(ROWS), lesson.bonus[:, 0]] >= 2)
        # What somebody imagined was not chosen by the ask rule.
        fixed = learner._lesson(observation, duels, asked=False)
        np.testing.assert_array_equal(drawn_tokens(fixed)[:, 0], observation["tokens"][:, OF_REFERENCE[0], 0])
    assert 0.4 < np.mean(own) < 0.9


def test_the_duels_own_stands_for_a_draw_that_might_have_duelled_only(rounds):
    env, _, shown, _, _ = rounds
    draws = ReferenceDraws(env.view(), 0, 1, duel_is_draw=True)
    observation = {name: value[:4].copy() for name, value in shown[0][0].items()}
    observation["tokens"][:] = np.arange(5)[:, None] + 10 * np.arange(4)[:, None, None]
    observation["responses"] = observation["tokens"][..., 0].astype(str).astype(object)
    observation["responses"][1, 2] = observation["responses"][1, 0]  # the first draw says what the rival says
    pairs = np.array([[0, 4], [3, 0], [3, 4], [1, 2]])  # the third has no rival of the policy

    def columns(asked):
        rows = np.arange(4)
        return draws.of(observation, Duels(rows, pairs, np.ones(4)), asked=asked)[0][:, 0, 0] - 10 * rows

    assert columns(asked=True).tolist() == [4, 2, 2, 2]
    assert columns(asked=False).tolist() == [2, 2, 2, 2]


def test_only_duels_of_the_ask_rule_are_taken_for_draws(rounds, monkeypatch):
    _, agent, shown, _, _ = rounds
    observation, pairs = shown[0]
    told = []

    def watched(observation, duels, *, asked):
        told.append(asked)
        raise KeyboardInterrupt  # before anything is learnt

    monkeypatch.setattr(agent.learner._draws, "of", watched)
    duels = Duels(np.arange(ROWS), pairs, np.ones(ROWS))
    with pytest.raises(KeyboardInterrupt):
        agent.learner.teach(observation, duels)
    with pytest.raises(KeyboardInterrupt):
        agent.learner.learn([Piece(observation, pairs, duels.labels, np.zeros(ROWS, int), np.full(ROWS, ROWS))])
    assert told == [False, True]


# Lessons with a bonus -------------------------------------------------------------------------------------------------


def lesson(pairs, draws, label=1.0):
    """Of responses that are named by a number each: pairs [M, 2] and draws [M, B]."""
    tokens = [np.array(numbers)[:, :, None] * np.ones((1, 1, 3), int) for numbers in (pairs, draws)]
    masks = [np.ones_like(each, np.int8) for each in tokens]
    prompts = np.array([f"prompt {row}" for row in range(len(pairs))], dtype=object)
    return Lesson.with_draws(prompts, (tokens[0], masks[0]), np.full(len(pairs), label), (tokens[1], masks[1]))


def said(some):
    """Pairs and draws, as `lesson` takes them."""
    assert (some.bonus < some.tokens.shape[1]).all()
    each = np.arange(len(some))[:, None]
    return some.tokens[:, :2, 0].tolist(), some.tokens[each, some.bonus, 0].tolist()


@pytest.mark.parametrize(
    ("pairs", "draws", "width"),
    [
        ([[1, 2]], [[2]], 2),
        ([[1, 2]], [[1]], 2),
        ([[1, 2]], [[3]], 3),
        ([[1, 1]], [[1]], 2),  # a pair stays a pair
        ([[1, 2]], [[2, 2, 3, 2, 3]], 3),  # every draw counts
        ([[1, 2], [3, 4]], [[2, 1], [5, 6]], 4),
        ([[1, 2], [3, 4], [5, 6]], [[7, 2], [3, 3], [8, 8]], 3),
    ],
)
def test_a_lesson_holds_each_response_once_and_every_draw(pairs, draws, width):
    made = lesson(pairs, draws)
    assert made.tokens.shape[1] == made.mask.shape[1] == width
    assert said(made) == (pairs, draws)


def test_equal_tokens_under_another_mask_are_another_response():
    tokens, mask = np.ones((1, 2, 3), int), np.array([[[1, 1, 1], [1, 1, 0]]], np.int8)
    draws = np.array([[[1, 1, 7]]]), np.array([[[1, 1, 0]]], np.int8)  # what stands behind a response is not read
    made = Lesson.with_draws(np.array(["prompt"], object), (tokens, mask), np.ones(1), draws)
    assert made.tokens.shape[1] == 2 and made.bonus.tolist() == [[1]]


def test_lessons_of_any_width_are_joined_and_cut():
    narrow, wide = lesson([[1, 2]], [[2, 1]]), lesson([[3, 4], [5, 6]], [[4, 4], [7, 8]])
    for both, order in ((narrow.then(wide), [0, 1, 2]), (wide.then(narrow), [2, 0, 1])):
        assert both.tokens.shape[1] == 4
        assert said(both.take(order)) == ([[1, 2], [3, 4], [5, 6]], [[2, 1], [4, 4], [7, 8]])
        assert both.take(order[:2]).tokens.shape[1] == both.take(order[:2]).mask.shape[1] == 2
        assert (both.mask == 1).all()  # no empty responses
    waiting = WaitingLessons()
    waiting.add(narrow, np.array([1]), np.array([0]), [1])
    waiting.add(wide, np.array([0, 2]), np.array([0, 0]), [1, 1])
    restored = WaitingLessons()
    restored.load_state_dict(waiting.state_dict())
    steps = [taught for _, taught in restored.whole_steps(1)]
    assert [said(each) for each in steps] == [([[3, 4]], [[4, 4]]), ([[1, 2]], [[2, 1]]), ([[5, 6]], [[7, 8]])]
    old, restored = OldLessons(2, 0), OldLessons(2, 1)
    old.hold(wide)
    restored.load_state_dict(old.state_dict())
    pairs, draws = said(restored.beside(narrow))
    assert (pairs, draws) == ([[1, 2], [3, 4], [5, 6]], [[2, 1], [4, 4], [7, 8]])
