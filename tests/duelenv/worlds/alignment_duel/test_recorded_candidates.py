"""Recorded responses among the candidates: which are shown, in which tokens, and what is made of them."""

from collections import Counter

import numpy as np
import pytest
from worlds import PROMPTS, make_scalar, make_vector, tiny_policy

import duelenv.agents
from duelenv import UserError
from duelenv.data import Pool
from duelenv.worlds.alignment_duel.recorded_candidates import RecordedResponses

WORLD = "duelenv/AlignmentDuel-v0"
RECORD = {
    prompt: ["the garden is old", "the river", f"it is{' old' * (1 + n % 3)}"] for n, prompt in enumerate(PROMPTS)
}
SOURCES = {"policy": 2, "recorded": 2}
PARTS = (slice(0, 2), slice(2, 4))


def world(num_envs=4, recorded=RECORD, sources=SOURCES, **settings):
    return make_vector(WORLD, num_envs, sources=sources, num_candidates=None, recorded=recorded, **settings)


def test_recorded_responses_stand_beside_the_policys_in_its_own_tokens():
    policy = tiny_policy(max_new_tokens=8)
    env = world(policy=policy)
    observation, _ = env.reset(seed=0)
    assert env.view().sources == ("policy", "recorded") and env.view().source_counts == (2, 2)
    assert observation["source"].tolist() == [[0, 0, 1, 1]] * 4
    assert observation["policy_version"].tolist() == [[0, 0, -1, -1]] * 4
    assert observation in env.observation_space
    texts, tokens, mask = (observation[name] for name in ("responses", "tokens", "mask"))
    for row, prompt in enumerate(observation["prompt"]):
        assert set(texts[row, 2:]) <= set(RECORD[prompt]) and texts[row, 2] != texts[row, 3]
    assert (policy.decode(tokens, mask) == texts).all()
    again = policy.tokens_of(texts[:, 2:])
    assert (tokens[:, 2:] == again[0]).all() and (mask[:, 2:] == again[1]).all()
    for name, source in (("log_prob", "policy"), ("reference_log_prob", "reference")):
        scored = policy.score(list(observation["prompt"]), tokens, mask, source=source)
        np.testing.assert_allclose(observation[name], scored, atol=1e-4)
    alone = world(policy=policy, features="start").reset(seed=0)[0]["features"]
    np.testing.assert_allclose(alone, policy.embed(list(observation["prompt"]), tokens, mask), atol=1e-5)


def test_what_the_policy_draws_is_what_it_draws_without_them():
    """Prompts, tokens and coins are the same: the record takes the place of other candidates, and of nothing else."""
    with_record, _ = world().reset(seed=3)
    without, _ = world(recorded=None, sources={"policy": 4}).reset(seed=3)
    assert (with_record["prompt"] == without["prompt"]).all()
    assert (with_record["tokens"][:, :2] == without["tokens"][:, :2]).all()


def test_who_is_shown_is_decided_by_numbers_of_its_own():
    """Not by those that decide the first tokens of the policy's: the two would go together."""
    env = world(policy=(policy := tiny_policy()))
    observation, _ = env.reset(seed=0)
    texts = observation["responses"]
    record = RecordedResponses(RECORD, policy, np.array(PROMPTS, dtype=object), 2)
    of_policy, own = (record.draw(observation["prompt"], env._current._uniforms[:, part, 0])[0] for part in PARTS)
    assert (texts[:, 2:] == own).all() and (texts[:, 2:] != of_policy).any()


def test_all_sets_of_different_responses_are_alike_probable():
    policy = tiny_policy(max_new_tokens=8)
    prompts = np.array(PROMPTS, dtype=object)
    record = RecordedResponses(RECORD, policy, prompts, 2)
    uniforms = (np.stack(np.meshgrid(np.arange(6), np.arange(6), indexing="ij"), -1).reshape(-1, 2) + 0.5) / 6
    texts, tokens, mask = record.draw(np.full(36, PROMPTS[1], dtype=object), uniforms)
    assert tokens.shape == mask.shape == (36, 2, 8)
    counted = Counter(map(tuple, texts.tolist()))
    assert len(counted) == 6 and set(counted.values()) == {6}  # ordered pairs of three, by a grid of numbers
    last = record.draw(prompts[:1], np.full((1, 2), 1 - 2**-53))[0]
    assert last.tolist() == [[RECORD[PROMPTS[0]][2], RECORD[PROMPTS[0]][1]]]  # the largest uniform there is


def test_a_round_is_that_of_its_seed_and_of_a_checkpoint():
    first, second = world(), world()
    for seed in (5, 5, 6):
        one, other = first.reset(seed=seed)[0], second.reset(seed=seed)[0]
        assert (one["responses"] == other["responses"]).all()
    state = first.state_dict()
    back = second.load_state_dict(state)
    assert (back["responses"] == one["responses"]).all() and (back["policy_version"][:, 2:] == -1).all()
    assert (
        make_scalar(WORLD, sources=SOURCES, num_candidates=None, recorded=RECORD).reset(seed=6)[0]["responses"]
        == one["responses"][0]
    ).all()


def test_a_pool_or_a_table_will_do_and_scores_are_not_looked_at(tmp_path):
    texts = np.array([RECORD[prompt][:2] for prompt in PROMPTS], dtype=object)
    pool = Pool(tuple(PROMPTS), texts, np.arange(10.0).reshape(5, 2))
    table = tmp_path / "log.jsonl"
    rows = [{"prompt": p, "response": r, "score": float(n)} for p in PROMPTS for n, r in enumerate(RECORD[p][:2])]
    table.write_text("".join(f"{row}\n".replace("'", '"') for row in rows))
    by_hand = world(recorded={p: RECORD[p][:2] for p in PROMPTS}).reset(seed=0)[0]["responses"]
    for given in (pool, table, str(table), {"path": str(table), "score": "score"}):
        assert (world(recorded=given).reset(seed=0)[0]["responses"] == by_hand).all()


def test_a_text_recorded_twice_counts_once():
    twice = {prompt: [*texts, *texts] for prompt, texts in RECORD.items()}
    assert (world(recorded=twice).reset(seed=0)[0]["responses"] == world().reset(seed=0)[0]["responses"]).all()


@pytest.mark.parametrize("sampling", ["fresh", "ahead"])
def test_an_agent_duels_the_policy_against_the_record_and_learns_from_it(sampling):
    env = world(sampling=sampling)
    observation, _ = env.reset(seed=0)
    agent = duelenv.agents.make("composed", env, seed=0, ask="against_recorded", learning_rate=1e-3)
    for _ in range(3):
        actions = agent.act(observation)
        kinds = np.take_along_axis(observation["source"], actions, axis=1)
        assert (np.sort(kinds, axis=1) == [0, 1]).all()  # one of the policy, one of the record
        following, labels, _, _, info = env.step(actions)
        figures = agent.update(observation, actions, labels, info["late"])
        assert np.isfinite(figures["loss"]) and figures["gradient_norm"] > 0
        observation = following
    assert agent.gradient_steps == 3
    assert observation["policy_version"][0].tolist() == [3 if sampling == "fresh" else 2] * 2 + [-1] * 2


def test_labels_pull_the_policy_towards_recorded_responses_that_win():
    env = world(num_envs=4, policy=(policy := tiny_policy(max_new_tokens=8)))
    agent = duelenv.agents.make("composed", env, seed=0, ask="against_recorded", learning_rate=3e-3)
    observation, _ = env.reset(seed=0)
    prompts, tokens, mask = (observation[name] for name in ("prompt", "tokens", "mask"))
    before = policy.score(list(prompts), tokens, mask)
    for _ in range(3):
        actions = agent.act(observation)
        recorded_first = np.take_along_axis(observation["source"], actions, axis=1)[:, 0] == 1
        following, *_, info = env.step(actions)
        agent.update(observation, actions, recorded_first.astype(float), info["late"])
        observation = following
    moved = policy.score(list(prompts), tokens, mask) - before
    assert moved[:, 2:].mean() > moved[:, :2].mean() + 0.1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"recorded": None},
            r"sources has 'recorded' and nothing is recorded; give recorded=\{prompt: \[responses\]\}",
        ),
        (
            {"sources": {"policy": 2}},
            "recorded is read by the source 'recorded' alone, and candidates come from policy",
        ),
        (
            {"recorded": {p: t for p, t in RECORD.items() if p not in PROMPTS[1:3]}},
            r"fewer than sources\['recorded'\]=2 different responses to 2 of the world's 5 prompts, 0 to 'tell me "
            "about the river'; record more, leave those prompts out, or lower the number",
        ),
        (
            {"recorded": RECORD | {PROMPTS[4]: ["the river", "the river"]}},
            "2 different responses to 1 of the world's 5 prompts, 1 to 'tell me about the doctor'",
        ),
        (
            {"recorded": RECORD | {PROMPTS[0]: ["the river", "the xylophone"]}},
            "1 of 14 recorded responses are other texts in the policy's tokens, 'the xylophone' is",
        ),
        (
            {"recorded": RECORD | {PROMPTS[0]: ["the river", "old " * 40]}},
            r"response 'old old .* has 40 tokens, expected at most 6; leave it out, or raise max_new_tokens",
        ),
        (
            {"recorded": {PROMPTS[0]: "the river"}},
            "recorded has 'the river' for the prompt .*, expected a text and a list",
        ),
        ({"recorded": {PROMPTS[0]: ["the river", 3]}}, r"recorded has \"\['the river', 3\]\" for the prompt"),
        ({"sources": {"policy": 2, "recorded": 0}}, r"sources\['recorded'\] is 0"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(settings, message):
    with pytest.raises(UserError, match=message):
        world(**settings)


def test_the_rule_needs_both_sources():
    env = make_vector(WORLD, 2)
    with pytest.raises(UserError, match=r"duels policy against recorded, and the candidates come from policy only"):
        duelenv.agents.make("composed", env, seed=0, ask="against_recorded")
