"""AlignmentDuel: when candidates are drawn, who drew them, what they are judged against."""

import numpy as np
import pytest
import torch
from worlds import PROMPTS, TEST_PROMPTS, make_scalar, make_vector, tiny_policy

import duelenv
from duelenv.disturbances import Delay
from duelenv.ground.errors import UserError
from duelenv.oracles.base import UtilityOracle, make

WORLD = "duelenv/AlignmentDuel-v0"


def nudge(policy, size=0.5):
    """Changes the policy's weights as an update would."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += size * torch.randn_like(parameter) * parameter.std()
    policy.updated()


class WordCount(UtilityOracle):
    """Utility without a known maximum."""

    def utility(self, prompts, responses):
        return np.array([0.3 * len(set(response.split())) for response in responses])


def first_pairs(env):
    return np.tile([[0, 1]], (env.num_envs, 1))


# When candidates are drawn --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sampling", "version"), [("fresh", 1), ("ahead", 0)])
def test_fresh_candidates_come_from_the_updated_policy_and_ahead_ones_from_before(sampling, version):
    policy = tiny_policy()
    env = make_vector(WORLD, 2, policy=policy, sampling=sampling)
    env.reset(seed=0)
    observation = env.step(first_pairs(env))[0]
    nudge(policy)  # what `agent.update` does between step and the next reading
    assert (observation["policy_version"] == version).all()
    expected = policy.score(list(observation["prompt"]), observation["tokens"], observation["mask"])
    agrees = np.allclose(observation["log_prob"], expected, atol=1e-3)
    assert agrees == (sampling == "fresh")


def test_the_duel_is_between_the_candidates_that_were_shown():
    """Reading an observation late, after its duel, shows what duelled."""
    policy = tiny_policy()
    heard = []

    def oracle(prompts, first, second):
        heard.append((list(first), list(second)))
        return np.full(len(prompts), 0.5)

    env = make_vector(WORLD, 3, policy=policy, oracle=oracle)
    observation, _ = env.reset(seed=0)
    env.step(first_pairs(env))  # nobody has read the observation yet
    nudge(policy)
    assert heard == [(observation["responses"][:, 0].tolist(), observation["responses"][:, 1].tolist())]


def test_log_probs_are_at_temperature_one_whatever_the_sampling_temperature():
    policy = tiny_policy()
    env = make_vector(WORLD, 2, policy=policy, temperature=0.5)
    observation, _ = env.reset(seed=0)
    scored = policy.score(list(observation["prompt"]), observation["tokens"], observation["mask"])
    np.testing.assert_allclose(observation["log_prob"], scored, atol=1e-4)


# Sources --------------------------------------------------------------------------------------------------------------


def test_every_source_draws_its_share_and_the_policy_scores_them_all():
    policy = tiny_policy()
    nudge(policy)
    sources = {"policy": 2, "reference": 3, "pilaf_plus": 1, "pilaf_minus": 1, "start": 1}
    env = make_vector(WORLD, 2, policy=policy, sources=sources, num_candidates=None)
    assert env.view().sources == tuple(sources)
    observation, _ = env.reset(seed=0)
    assert observation["source"].tolist() == [[0, 0, 1, 1, 1, 2, 3, 4]] * 2
    assert observation["policy_version"][0].tolist() == [1, 1, 0, 0, 0, 1, 1, 0]
    scored = policy.score(list(observation["prompt"]), observation["tokens"], observation["mask"])
    np.testing.assert_allclose(observation["log_prob"], scored, atol=1e-3)
    reference = tiny_policy().score(list(observation["prompt"]), observation["tokens"], observation["mask"])
    np.testing.assert_allclose(observation["reference_log_prob"], reference, atol=1e-3)


def test_pilafs_beta_is_the_worlds():
    """Each is drawn as by the policy's own loop with that beta, and the log-prob is the policy's all the same."""
    policy = tiny_policy()
    for _ in range(3):
        nudge(policy)
    sources = {"pilaf_plus": 4, "pilaf_minus": 4}
    drawn = {}
    for beta in (None, 0.1, 3.0):
        env = make_vector(WORLD, 4, policy=policy, sources=sources, num_candidates=None, pilaf_beta=beta)
        observation, _ = env.reset(seed=0)
        drawn[beta] = observation["tokens"]
        for part, source in ((slice(0, 4), "pilaf_plus"), (slice(4, 8), "pilaf_minus")):
            uniforms = env._current._uniforms[:, part]
            slow = policy.sample(list(observation["prompt"]), 4, uniforms=uniforms, source=source, beta=beta or 0.1)
            np.testing.assert_array_equal(observation["tokens"][:, part], slow.tokens)
        scored = policy.score(list(observation["prompt"]), observation["tokens"], observation["mask"])
        np.testing.assert_allclose(observation["log_prob"], scored, atol=1e-4)
    assert (drawn[None] == drawn[0.1]).all()
    assert (drawn[0.1] != drawn[3.0]).any()


def test_candidates_of_the_start_stay_its_own_when_the_reference_moves():
    policy = tiny_policy()
    nudge(policy)
    policy.move_reference()
    nudge(policy)
    sources = {"start": 3, "reference": 3}
    env = make_vector(WORLD, 2, policy=policy, sources=sources, num_candidates=None)
    observation, _ = env.reset(seed=0)
    uniforms = env._current._uniforms[:, :3]
    slow = tiny_policy().sample(list(observation["prompt"]), 3, uniforms=uniforms)
    np.testing.assert_array_equal(observation["tokens"][:, :3], slow.tokens)
    assert observation["policy_version"][0].tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pilaf_beta": 0.2}, "read by the sources pilaf_plus and pilaf_minus alone, and candidates come from policy"),
        ({"pilaf_beta": -0.1, "sources": {"policy": 1, "pilaf_plus": 1}, "num_candidates": None}, "pilaf_beta is -0.1"),
    ],
)
def test_a_wrong_beta_of_pilaf_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        make_vector(WORLD, 2, **settings)


MIXED = {"sources": {"policy": 1, "reference": 2, "pilaf_plus": 1}, "num_candidates": None}


def test_what_another_source_drew_is_scored_when_it_is_read_and_once(monkeypatch):
    policy = tiny_policy()
    nudge(policy)
    env = make_vector(WORLD, 2, policy=policy, **MIXED)
    observation, _ = env.reset(seed=0)
    passes, score = [], policy.score
    monkeypatch.setattr(policy, "score", lambda *given: (passes.append(given[1].shape), score(*given))[1])
    assert observation["tokens"].shape[1] == 4
    env.step(first_pairs(env))
    assert passes == []
    expected = score(list(observation["prompt"]), *drawn(observation))
    np.testing.assert_allclose(observation["log_prob"], expected, atol=1e-3)
    assert passes == [(2, 3, 6)]  # nothing of its own draws


def test_log_probs_of_a_policy_that_is_gone_are_refused_and_not_made_by_another():
    policy = tiny_policy()
    nudge(policy)
    env = make_vector(WORLD, 2, policy=policy, **MIXED)
    observation, _ = env.reset(seed=0)
    texts = observation["responses"].tolist()
    state = env.state_dict()
    before, expected = policy.state_dict(), policy.score(list(observation["prompt"]), *drawn(observation))
    nudge(policy)
    with pytest.raises(duelenv.UserError, match=r"version 1, and that is now 2: too late .* read log_prob before"):
        observation["log_prob"]
    assert observation["responses"].tolist() == texts  # the rest is there
    later = env.state_dict()
    for saved in (state, later):
        restored = make_vector(WORLD, 2, policy=policy, **MIXED)
        shown = restored.load_state_dict(saved)
        assert shown["responses"].tolist() == texts
        with pytest.raises(duelenv.UserError, match="too late"):
            shown["log_prob"]
    policy.load_state_dict(before)  # the one that drew
    np.testing.assert_allclose(restored._observe()["log_prob"], expected, atol=1e-3)
    only_own = make_vector(WORLD, 2, policy=policy)
    observation, _ = only_own.reset(seed=0)
    expected = policy.score(list(observation["prompt"]), *drawn(observation))
    nudge(policy)
    np.testing.assert_allclose(observation["log_prob"], expected, atol=1e-3)  # told by the draws themselves


@pytest.mark.parametrize("settings", [{"sampling": "ahead"}, {"stages": [Delay(2, "fixed")]}])
def test_log_probs_are_made_with_the_candidates_where_they_outlive_their_policy(settings):
    """Before an update that comes between drawing and reading, and for labels that come after one."""
    policy = tiny_policy()
    nudge(policy)
    env = make_vector(WORLD, 2, policy=policy, **MIXED, **settings)
    observation, _ = env.reset(seed=0)
    expected = []
    for _ in range(3):
        expected.append(policy.score(list(observation["prompt"]), *drawn(observation)))
        nudge(policy, 0.1)
        following, *_, info = env.step(first_pairs(env))
        np.testing.assert_allclose(observation["log_prob"], expected[-1], atol=1e-3)
        observation = following
    if "stages" in settings:
        assert len(info["late"]) == 2
        np.testing.assert_allclose(info["late"].observation["log_prob"], expected[0], atol=1e-3)


def test_a_belief_may_read_log_probs_of_what_the_start_policy_said():
    """Those of the policy of the moment, in every evaluation."""
    policy = tiny_policy()
    env = make_vector(WORLD, 2, policy=policy)
    env.reset(seed=0)

    class Reader:
        def recommend(self, observation):
            return np.zeros(len(observation["prompt"]), int)

        def believed(self, observation, num_samples):
            expected = policy.score(list(observation["prompt"]), *drawn(observation))
            np.testing.assert_allclose(observation["log_prob"], expected, atol=1e-3)
            self.heard += 1
            return np.zeros((num_samples, *expected.shape))

    reader = Reader()
    for _ in range(2):
        reader.heard = 0
        env.evaluate(reader)
        assert reader.heard == 2  # on and off
        nudge(policy)


def drawn(observation):
    return observation["tokens"], observation["mask"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sources": {"teacher": 2, "policy": 2}}, "teacher"),
        ({"sources": {"polcy": 4}}, r"source 'polcy' is unknown: did you mean 'policy'\? \(choose from pilaf_minus"),
        ({"sources": {"policy": 0, "reference": 4}}, "policy"),
        ({"sources": {"policy": 2, "reference": 3}}, "sum 5"),
        ({"sources": 4}, "sources is 4, expected"),
        ({"features": 3}, "encoder 3 is unknown"),
        ({"prompts": 3}, "prompts is 3, expected"),
        ({"prompts": None}, "prompts is None, expected"),
        ({"sampling": "later"}, "later"),
        ({"features": "end"}, "end"),
        ({"prompts": []}, "at least one prompt"),
        ({"prompts": "tell me"}, "list of strings"),
        ({"prompts": ["a", 3]}, r"prompts\[1\]"),
        ({"prompts": PROMPTS[:3], "test_prompts": None}, "test_prompts"),
        ({"prompts": ["tell me about the garden " * 30]}, "context|long"),
        ({"features": lambda prompts, responses: np.full((len(prompts), 2), np.nan)}, "encoder"),
    ],
)
def test_a_wrong_setting_is_named(settings, message):
    with pytest.raises(duelenv.UserError, match=message):
        make_vector(WORLD, 2, **settings)


def test_an_oracle_that_answers_outside_the_unit_interval_is_named():
    env = make_vector(WORLD, 2, oracle=lambda prompts, first, second: np.full(len(prompts), 1.2))
    env.reset(seed=0)
    with pytest.raises(duelenv.UserError, match=r"1\.2"):
        env.step(first_pairs(env))


def test_every_fifth_prompt_is_held_out_by_default():
    prompts = [f"tell me about the {noun}" for noun in "garden river house teacher doctor king".split()]
    env = make_vector(WORLD, 64, prompts=prompts, test_prompts=None, horizon=4)
    seen = set()
    observation, _ = env.reset(seed=0)
    for _ in range(3):
        seen |= set(observation["prompt"])
        observation = env.step(first_pairs(env))[0]
    assert seen == set(prompts) - {prompts[4]}


def test_an_encoder_of_choice_gives_the_features():
    def lengths(prompts, responses):
        return np.array([[len(p), len(r)] for p, r in zip(prompts, responses, strict=True)], float)

    env = make_vector(WORLD, 2, features=lengths)
    observation, _ = env.reset(seed=0)
    assert observation in env.observation_space
    expected = [[len(text) for text in row] for row in observation["responses"]]
    np.testing.assert_array_equal(observation["features"][:, :, 1], expected)


# Regret and evaluation ------------------------------------------------------------------------------------------------


def test_regret_is_measured_against_the_known_maximum():
    env = make_vector(WORLD, 3, oracle=make("good_words", scale=3.0), within_set=True)
    observation, _ = env.reset(seed=0)
    prompts, responses = list(observation["prompt"]), observation["responses"]
    oracle = make("good_words", scale=3.0)
    best = oracle.maximum(prompts)
    shown = [oracle.utility(prompts, list(responses[:, k])) for k in range(4)]
    regret = env.step(first_pairs(env))[-1]["regret"]
    np.testing.assert_allclose(regret["utility"], best - (shown[0] + shown[1]) / 2)
    gap = 1 / (1 + np.exp(-(best - shown[0]))) - 0.5
    np.testing.assert_allclose(regret["strong"] + regret["weak"] - gap, regret["sum"] - gap)
    assert (regret["sum"] >= gap).all()
    np.testing.assert_allclose(regret["within_set"], np.max(shown, axis=0) - (shown[0] + shown[1]) / 2)


def test_the_comparator_never_depends_on_the_policy():
    """Where no maximum is known it is the best of 64 responses of the start policy, drawn once."""
    regrets = []
    for size in (0.0, 0.5):
        policy = tiny_policy()
        env = make_vector(WORLD, 4, policy=policy, oracle=WordCount())
        nudge(policy, size)
        observation, _ = env.reset(seed=0)
        shown = observation["responses"][:, :2]
        utilities = np.array([WordCount().utility([], list(row)) for row in shown])
        regret = env.step(first_pairs(env))[-1]["regret"]["utility"]
        regrets.append((observation["responses"], regret + utilities.mean(axis=1)))
    assert (regrets[0][0] != regrets[1][0]).any()  # the policies differ ...
    np.testing.assert_allclose(regrets[0][1], regrets[1][1])  # ... and the comparator does not


def test_regret_is_absent_where_the_truth_is_unknown():
    env = make_vector(WORLD, 2, oracle=lambda prompts, first, second: np.full(len(prompts), 0.5))
    env.reset(seed=0)
    assert env.step(first_pairs(env))[-1]["regret"] == {}


class Greedy:
    """Recommends the first candidate."""

    def recommend(self, observation):
        return np.zeros(len(observation["responses"]), np.int64)


def test_the_start_policy_wins_half_of_the_time_at_no_divergence():
    env = make_vector(WORLD, 2)
    env.reset(seed=0)
    metrics = env.evaluate(Greedy())
    assert metrics["win_rate"][0] == pytest.approx(0.5)  # the same draws give the same texts
    assert metrics["kl"][0] == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("temperature", [None, 0.5])
def test_win_rate_and_kl_of_a_moved_policy_match_a_slow_computation(temperature):
    """The win rate is that of responses as they are drawn, KL that of the model, at temperature 1."""
    policy = tiny_policy()
    env = make_vector(WORLD, 2, policy=policy, oracle=WordCount(), num_candidates=3, temperature=temperature)
    env.reset(seed=0)
    before = env.examples(count=2)
    assert [example["prompt"] for example in before] == TEST_PROMPTS
    assert all(example["before"] == example["after"] for example in before)
    nudge(policy)
    after = env.examples(count=2)
    assert any(example["before"] != example["after"] for example in after)
    assert [e["before"] for e in before] == [e["before"] for e in after]
    metrics = env.evaluate(Greedy())
    # The slow way: the same uniforms, one response at a time.
    from duelenv.ground.randomness import RowStreams

    uniforms = RowStreams(env._root, "evaluate/test", 2).uniform(3, policy.max_new_tokens)
    wins, best, ratios = [], [], []
    for row, prompt in enumerate(TEST_PROMPTS):
        for k in range(3):
            draws = uniforms[row : row + 1, k : k + 1]
            new_text = policy.sample([prompt], 1, uniforms=draws, temperature=temperature).texts[0, 0]
            for j in range(3):
                others = uniforms[row : row + 1, j : j + 1]
                old = policy.sample([prompt], 1, uniforms=others, source="start", temperature=temperature)
                old_text = old.texts[0, 0]
                margin = float(np.diff(WordCount().utility([], [old_text, new_text]))[0])
                wins.append(0.5 if new_text == old_text else 1 / (1 + np.exp(-margin)))
                best += wins[-1:] if k == 0 else []
            plain = policy.sample([prompt], 1, uniforms=draws)
            start = policy.score([prompt], plain.tokens, plain.mask, source="start")
            ratios.append(float(plain.log_prob[0, 0] - start[0, 0]))
    assert metrics["win_rate"][0] == pytest.approx(np.mean(wins), abs=1e-6)
    assert metrics["win_rate_best_of_n"][0] == pytest.approx(np.mean(best), abs=1e-6)
    assert metrics["kl"][0] == pytest.approx(np.mean(ratios), abs=1e-3)


@pytest.mark.parametrize("costs", [True, False])
def test_no_response_is_compared_with_what_shares_its_draws_alone(costs):
    """A judge that may be paid gets as many pairs as there are responses; one that is free, wrapped or not, all."""
    from duelenv.oracles import Noise

    asked = []

    def judge(prompts, first, second):
        asked.extend(zip(prompts, first, second, strict=True))
        return np.full(len(prompts), 0.9)

    env = make_vector(WORLD, 2, num_candidates=4, evaluation_oracle=judge if costs else Noise(WordCount(), 0.2))
    nudge(env.view().policy)
    env.reset(seed=0)
    new, old = env._evaluation.responses("test")
    metrics = env.evaluate(Greedy())
    if costs:
        pairs = [
            (prompt, new.responses[row, k], old[row, (k + 1) % 4])
            for row, prompt in enumerate(TEST_PROMPTS)
            for k in range(4)
        ]
        best = [pair for pair in pairs if pair[1] == new.responses[TEST_PROMPTS.index(pair[0]), 0]][: len(TEST_PROMPTS)]
        assert asked[: len(pairs)] == [pair for pair in pairs if pair[1] != pair[2]]
        assert set(asked[len(pairs) :]) <= set(best) | set(pairs)
        return
    noisy = []
    for row in range(len(TEST_PROMPTS)):
        for mine in new.responses[row]:
            for theirs in old[row]:
                margin = float(np.diff(WordCount().utility([], [theirs, mine]))[0])
                noisy.append(0.5 if mine == theirs else 0.2 + 0.6 / (1 + np.exp(-margin)))
    assert metrics["win_rate"][0] == pytest.approx(np.mean(noisy), abs=1e-6)


def test_another_oracle_may_judge():
    env = make_vector(WORLD, 2, evaluation_oracle=lambda prompts, first, second: np.full(len(prompts), 0.9))
    nudge(env.view().policy)
    env.reset(seed=0)
    metrics = env.evaluate(Greedy())
    assert metrics["win_rate"][0] == pytest.approx(0.9, abs=0.02)
    assert "simple_regret" not in metrics


class Brevity(UtilityOracle):
    """Another utility without a known maximum, on another scale."""

    def utility(self, prompts, responses):
        return np.array([-2.0 * len(response) for response in responses])


def test_a_judge_with_another_utility_has_a_comparator_of_its_own():
    figures = []
    for settings in ({"oracle": Brevity()}, {"oracle": WordCount(), "evaluation_oracle": Brevity()}):
        env = make_vector(WORLD, 16, **settings)
        env.reset(seed=0)
        env.step(first_pairs(env))  # regret under the labelling oracle, on the prompts that are judged below
        figures.append(env.evaluate(Greedy(), "train")["simple_regret"][0])
    assert figures[0] == figures[1] > 0


def test_an_evaluation_asks_a_utility_once_for_each_text():
    """However many pairs they make; and what the start policy says only at the first one."""
    asked = []

    class Counted(WordCount):
        def utility(self, prompts, responses):
            asked.extend(responses)
            return super().utility(prompts, responses)

    env = make_vector(WORLD, 2, oracle=Counted(), num_candidates=4)
    nudge(env.view().policy)
    env.reset(seed=0)
    env.evaluate(Greedy())
    count = len(TEST_PROMPTS) * 4
    known = len(asked) - 2 * count  # for the comparator, where the maximum is not known
    asked.clear()
    env.evaluate(Greedy())
    assert len(asked) == count and known >= 0
    env.reset(seed=1)
    before = len(asked)
    env.evaluate(Greedy())
    assert len(asked) - before == 2 * count + known


def test_a_seeded_reset_draws_the_comparator_anew():
    env = make_vector(WORLD, 2, oracle=Brevity())
    best = []
    for seed in (0, 1, 0):
        env.reset(seed=seed)
        best.append(env._comparator.best(np.array(TEST_PROMPTS, dtype=object)).tolist())
    assert best[0] == best[2] != best[1]


def test_an_unknown_split_is_named():
    env = make_vector(WORLD, 2)
    env.reset(seed=0)
    with pytest.raises(duelenv.UserError, match="validation"):
        env.evaluate(Greedy(), "validation")


@pytest.mark.parametrize("sampling", ["fresh", "ahead"])
def test_a_checkpoint_keeps_candidates_that_were_already_drawn(sampling):
    policy = tiny_policy()
    env = make_vector(WORLD, 2, policy=policy, sampling=sampling)
    env.reset(seed=0)
    observation = env.step(first_pairs(env))[0]
    responses = observation["responses"]  # drawn now
    state = env.state_dict()
    nudge(policy)
    restored = make_vector(WORLD, 2, policy=policy, sampling=sampling)
    np.testing.assert_array_equal(restored.load_state_dict(state)["responses"], responses)


# Features -------------------------------------------------------------------------------------------------------------

EVERY_SOURCE = {"pilaf_plus": 1, "policy": 2, "reference": 2, "pilaf_minus": 1}
#: What has become of the weights, and whose features have to be computed behind the drawing.
BECAME = {
    "as they were": (lambda policy: None, ["pilaf_plus", "pilaf_minus"]),
    "updated": (nudge, ["pilaf_plus", "policy", "pilaf_minus"]),
    "updated, and the reference moved": (lambda policy: (nudge(policy), policy.move_reference()), [*EVERY_SOURCE]),
    "updated and put back": (
        lambda policy: (state := policy.state_dict(), nudge(policy), policy.load_state_dict(state)),
        ["pilaf_plus", "pilaf_minus"],
    ),
    "moved and put back to an update": (
        lambda policy: (
            nudge(policy),
            state := policy.state_dict(),
            policy.move_reference(),
            policy.load_state_dict(state),
        ),
        ["pilaf_plus", "policy", "pilaf_minus"],
    ),
}


@pytest.mark.parametrize("became", BECAME)
def test_features_are_the_starts_whoever_drew_and_free_where_the_start_did(became, monkeypatch):
    policy = tiny_policy()
    change, expected = BECAME[became]
    change(policy)
    env = make_vector(WORLD, 3, policy=policy, sources=EVERY_SOURCE, num_candidates=None, features="start")
    embed, embedded = policy.embed, []
    monkeypatch.setattr(policy, "embed", lambda *given: embedded.append(given[1]) or embed(*given))
    for observation in (env.reset(seed=0)[0], env.step(first_pairs(env))[0]):
        embedded.clear()
        features = observation["features"]
        slow = [
            [embed([prompt], tokens[None, None], mask[None, None])[0, 0] for tokens, mask in zip(*of, strict=True)]
            for prompt, *of in zip(*(observation[name] for name in ("prompt", "tokens", "mask")), strict=True)
        ]
        np.testing.assert_allclose(features, slow, atol=1e-5)
        assert features.dtype == np.float32
        columns = np.array([list(EVERY_SOURCE)[source] in expected for source in observation["source"][0]])
        (tokens,) = embedded
        np.testing.assert_array_equal(tokens, observation["tokens"][:, columns])


def test_where_the_start_draws_all_no_response_is_embedded_again(monkeypatch):
    policy = tiny_policy()
    env = make_vector(WORLD, 3, policy=policy)
    monkeypatch.delattr(type(policy), "embed")
    observation, _ = env.reset(seed=0)
    assert np.isfinite(observation["features"]).all()


def test_an_encoders_features_need_no_hidden_layers(monkeypatch):
    policy = tiny_policy()
    asked, sample = [], policy.sample
    monkeypatch.setattr(
        policy, "sample", lambda *given, **named: asked.append(named["hidden"]) or sample(*given, **named)
    )
    env = make_vector(WORLD, 2, policy=policy, features=lambda prompts, responses: np.ones((len(prompts), 2)))
    assert env.reset(seed=0)[0]["features"].shape == (2, 4, 2)
    assert asked == [False]


def test_sources_that_are_the_start():
    policy = tiny_policy()
    every = ("policy", "reference", "start", "pilaf_plus", "pilaf_minus")

    def starts():
        return [source for source in every if policy.is_start(source)]

    assert starts() == ["policy", "reference", "start"]
    nudge(policy)
    assert starts() == ["reference", "start"]
    policy.move_reference()
    assert starts() == ["start"]
    policy.reference_version = 0  # as files of version 0.1 leave it
    assert starts() == ["start"]


@pytest.mark.parametrize("updated", [False, True])
def test_features_come_back_bit_for_bit_from_a_checkpoint(updated):
    policy = tiny_policy()
    if updated:
        nudge(policy)
    settings = {"sources": EVERY_SOURCE, "num_candidates": None}
    env = make_vector(WORLD, 3, policy=policy, **settings)
    env.reset(seed=0)
    observation = env.step(first_pairs(env))[0]
    observation["responses"]  # drawn, and nobody has asked for features
    state, weights = env.state_dict(), policy.state_dict()
    features = observation["features"]
    following = env.step(first_pairs(env))[0]["features"]
    other = tiny_policy()
    nudge(other)
    other.load_state_dict(weights)
    restored = make_vector(WORLD, 3, policy=other, **settings)
    restored.reset(seed=5)
    np.testing.assert_array_equal(restored.load_state_dict(state)["features"], features)
    np.testing.assert_array_equal(restored.step(first_pairs(env))[0]["features"], following)


def test_the_scalar_form_plays_an_episode():
    env = make_scalar(WORLD, horizon=2)
    agent = duelenv.agents.make("passive", env)
    observation, _ = env.reset(seed=0)
    assert isinstance(observation["prompt"], str)
    over = False
    while not over:
        action = agent.act(observation)
        following, label, _, over, _ = env.step(action)
        agent.update(observation, action, label)
        observation = following
    assert agent.gradient_steps == 2
    assert len(env.examples(count=1)) == 1


def test_rows_whose_candidates_all_say_the_same_are_named_asked_and_counted():
    env = make_vector(WORLD, 3, num_candidates=3)
    env.reset(seed=0)
    said = env.unwrapped._current.candidates().responses
    said[:] = [["a", "b", "a"], ["c", "c", "c"], ["d", "d", "e"]]
    _, labels, *_, info = env.step(np.array([[0, 1], [0, 1], [0, 1]]))
    assert info["alike"].dtype == np.bool_ and info["alike"].tolist() == [False, True, False]
    assert not np.isnan(labels).any() and info["queries"].tolist() == [3]
    assert info["certainty"][1] == info["certainty"][2] == 0.0  # equal texts, and a coin
    scalar = make_scalar(WORLD, num_candidates=2)
    scalar.reset(seed=0)
    scalar.unwrapped.vector._current.candidates().responses[:] = "a"
    assert scalar.step(np.array([0, 1]))[-1]["alike"] is True


def test_of_candidates_that_nobody_read_none_are_alike():
    """Where no oracle has a utility, rows that are not asked need not be drawn at all."""

    def half(prompts, first, second):
        return np.full(len(prompts), 0.5)

    env = make_vector(WORLD, 2, selective=True, temperature=1e-6, oracle=half)
    env.reset(seed=0)
    nobody, everybody = (np.array([[0, 1, ask]] * 2) for ask in (0, 1))
    assert env.step(nobody)[-1]["alike"].tolist() == [False, False]
    assert env.step(everybody)[-1]["alike"].tolist() == [True, True]


def test_sources_draw_from_uniforms_of_their_own():
    """Before any update policy and reference are one model: only other draws tell their responses apart."""
    env = make_vector("duelenv/AlignmentDuel-v0", 4, sources={"policy": 2, "reference": 2}, num_candidates=None)
    observation, _ = env.reset(seed=0)
    tokens = observation["tokens"]
    assert (tokens[:, :2] != tokens[:, 2:]).any(axis=-1).all()
