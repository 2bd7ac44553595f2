"""Rewards for TRL's trainers: the sign, the groups, what is asked, and TRL itself where it is installed."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from worlds import PROMPTS, make_vector, tiny_policy

import duelenv.agents
from duelenv import UserError
from duelenv.integrations.trl import RewardFunction
from duelenv.oracles import UtilityOracle


class Words(UtilityOracle):
    """Likes long responses."""

    def utility(self, prompts, responses):
        return np.array([0.5 * len(text.split()) for text in responses])


def message(role, text):
    return [{"role": role, "content": text}]


def test_a_utility_is_the_reward_whatever_container_the_texts_come_in():
    reward = RewardFunction(Words())
    texts = ["a b c", "a"]
    assert reward(prompts=["p", "p"], completions=texts, completion_ids=[[1], [2]], trainer_state=None) == [1.5, 0.5]
    chats = [message("assistant", text) for text in texts]
    assert reward(prompts=[message("user", "p")] * 2, completions=chats, log_metric=None) == [1.5, 0.5]
    assert reward.__name__ == "duelenv_Words"
    assert pickle.loads(pickle.dumps(reward))(["p"], ["a"]) == [0.5]


def longer(asked):
    def oracle(prompts, first, second):
        asked.extend(zip(prompts, first, second, strict=True))
        win = [0.5 + 0.1 * (len(a) - len(b)) for a, b in zip(first, second, strict=True)]
        return np.where(np.array(prompts) == "silent", np.nan, win)

    return oracle


def test_other_oracles_compare_the_completions_of_one_prompt():
    asked = []
    reward = RewardFunction(longer(asked), name="judge")
    prompts = ["p", "q", "p", "p", "q", "alone"]
    said = ["a", "aaa", "aaa", "aa", "a", "b"]
    expected = [(0.3 + 0.4) / 2, 0.7, (0.7 + 0.6) / 2, (0.6 + 0.4) / 2, 0.3, None]
    assert reward(prompts, said) == [None if one is None else pytest.approx(one) for one in expected]
    assert len(asked) == 3 + 1
    assert reward.__name__ == "judge"


def test_no_question_is_put_twice_and_equal_texts_are_not_compared():
    asked = []
    assert RewardFunction(longer(asked))(["p"] * 4, ["a", "aa", "a", "aa"]) == pytest.approx(
        [(0.5 + 2 * 0.4) / 3, (0.5 + 2 * 0.6) / 3] * 2
    )
    assert len(asked) == 1


def test_what_an_oracle_declines_is_no_reward():
    assert RewardFunction(longer([]))(["silent"] * 2, ["a", "aa"]) == [None, None]


def test_a_belief_rewards_as_its_agent_values_responses_in_its_world():
    policy = tiny_policy()
    env = make_vector("duelenv/AlignmentDuel-v0", 4, policy=policy, oracle=Words(), horizon=12)
    agent = duelenv.agents.make("thompson", env, belief="linear_logistic")
    observation, _ = env.reset(seed=0)
    for _ in range(8):
        actions = agent.act(observation)
        following, labels, *_, info = env.step(actions)
        agent.update(observation, actions, labels, info["late"])
        observation = following
    shown = env.show(observation["prompt"], observation["responses"])
    expected = agent.belief.mean(shown["features"])
    for source, features in ((agent, policy), (agent.belief, policy)):
        reward = RewardFunction(source, features=features)
        for row in range(4):
            found = reward([observation["prompt"][row]] * 4, observation["responses"][row].tolist())
            np.testing.assert_allclose(found, expected[row], rtol=1e-3, atol=1e-4)


def test_an_encoder_gives_the_features_of_a_belief():
    from duelenv.agents.beliefs.linear_logistic import LinearLogistic

    belief = LinearLogistic(2, replicates=1, batch=1, root=0)
    belief.update(np.array([[1.0, 0.0]]), np.array([[0.0, 0.0]]), np.array([1.0]))

    def encoder(prompts, responses):
        return np.array([[len(response), len(prompt)] for prompt, response in zip(prompts, responses, strict=True)])

    low, high = RewardFunction(belief, features=encoder)(["p", "p"], ["a", "aaa"])
    assert high == pytest.approx(3 * low) and low > 0


class Later:
    def ask(self, requests):
        pass

    def collect(self):
        return []


@pytest.mark.parametrize(
    ("source", "settings", "named"),
    [
        (Later(), {}, "answers later"),
        (Words(), {"features": lambda prompts, responses: None}, "leave features out"),
        (3, {}, "oracle"),
    ],
)
def test_what_cannot_reward_is_refused(source, settings, named):
    with pytest.raises(UserError, match=named):
        RewardFunction(source, **settings)


def test_agents_and_texts_that_cannot_reward_are_refused():
    env = make_vector("duelenv/AlignmentDuel-v0", 2)
    with pytest.raises(UserError, match="holds no belief"):
        RewardFunction(duelenv.agents.make("passive", env))
    with pytest.raises(UserError, match="pass features="):
        RewardFunction(duelenv.agents.make("thompson", env))
    for wrong in (3, None, [], [{"role": "assistant"}], [{"role": "assistant", "content": None}]):
        with pytest.raises(UserError, match=r"completions\[1\] is .*, expected text, or messages"):
            RewardFunction(Words())(["p", "p"], ["a", wrong])


def test_several_messages_are_one_text():
    asked = []
    turns = [*message("user", "Why?"), *message("assistant", "So."), *message("user", "And?")]
    RewardFunction(longer(asked))([turns, turns], ["a", "aa"])
    ((prompt, _, _),) = asked
    assert prompt == "Human: Why?\n\nAssistant: So.\n\nHuman: And?"


def test_nothing_of_trl_or_torch_is_imported():
    code = "import sys, duelenv.integrations.trl; sys.exit(bool({'trl', 'datasets', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_grpo_trains_on_it(tmp_path):
    """TRL itself: it takes the function, and the policy comes to say what the oracle likes."""
    trl, datasets = pytest.importorskip("trl"), pytest.importorskip("datasets")
    policy = tiny_policy()
    policy.export(tmp_path / "model")
    lengths = []

    def more_words(prompts, first, second):
        return [0.9 if len(a.split()) > len(b.split()) else 0.1 for a, b in zip(first, second, strict=True)]

    def noted(prompts, completions, **settings):
        found = RewardFunction(more_words)(prompts, completions, **settings)
        lengths.append(np.mean([len(text.split()) for text in completions]))
        return found

    arguments = trl.GRPOConfig(
        output_dir=str(tmp_path / "out"),
        per_device_train_batch_size=16,
        num_generations=8,
        max_completion_length=6,
        learning_rate=1e-2,
        max_steps=12,
        report_to=[],
        use_cpu=True,
        seed=0,
    )
    trainer = trl.GRPOTrainer(
        model=str(tmp_path / "model"),
        reward_funcs=[RewardFunction(Words()), noted],
        args=arguments,
        train_dataset=datasets.Dataset.from_dict({"prompt": PROMPTS * 4}),
    )
    trainer.train()
    assert any("rewards/duelenv_Words/mean" in entry for entry in trainer.state.log_history)
    assert np.mean(lengths[-3:]) > np.mean(lengths[:3])
