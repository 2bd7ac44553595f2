# /// script
# requires-python = ">=3.11"
# dependencies = ["duelenv[services]", "gymnasium", "numpy"]
#
# [tool.uv.sources]
# duelenv = { path = "..", editable = true }
# ///
"""A language model as judge, asked over OpenAI's chat protocol: here a stub on loopback, with `--url` a real server.

    python examples/judge.py
    python examples/judge.py --url http://127.0.0.1:8000/v1 --model Qwen/Qwen3-8B             # vLLM or SGLang
    python examples/judge.py --url https://api.openai.com/v1 --model gpt-4.1-mini --key JUDGE_KEY

`--key` names the environment variable with the token. The stub likes short answers, and also what it is shown first,
by 0.4 nats. Out come the simple regret of the agent that learnt from it, and what the judge says of itself: how much
being shown first was worth (`shift`), the share of verdicts that turned with the order, what it declined and what it
spent.
"""

import argparse
import contextlib

import gymnasium
import numpy as np

import duelenv
from duelenv.data import Pool
from duelenv.experiments.bench.judge_stub import MODEL, judge_server

TASKS = (
    "boil an egg",
    "tie a knot",
    "fold a map",
    "oil a door",
    "sow peas",
    "wax skis",
    "sharpen a knife",
    "dry herbs",
)
ANSWERS = [" ".join(["Take your time."] * padding) for padding in (1, 2, 4, 8)]


def stub(prompt, a, b):
    """P(A is better) of the stub: a nat for each 30 characters less, and 0.4 for standing first."""
    return 1 / (1 + np.exp((len(a) - len(b)) / 30 - 0.4))


def main(words=None) -> None:
    """Let an agent learn from the judge's verdicts of four rounds of 16 duels."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--url", help="up to and without /chat/completions; a stub on loopback if absent")
    parser.add_argument("--model", default=MODEL, help="the model's name there")
    parser.add_argument("--key", help="environment variable with the token")
    arguments = parser.parse_args(words)

    prompts = [f"How do I {task}?" for task in TASKS]
    responses = [[f"{task.capitalize()} slowly. {answer}" for answer in ANSWERS] for task in TASKS]
    truth = [[-len(text) / 30 for text in texts] for texts in responses]  # only the figure of regret knows it
    with contextlib.ExitStack() as stack:
        url = arguments.url
        if url is None:
            server, _ = stack.enter_context(judge_server(stub))
            url = f"{server.url}/v1"
        token = None if arguments.key is None else {"env": arguments.key}
        judge = duelenv.oracles.make("judge", url=url, model=arguments.model, token=token)
        env = gymnasium.make_vec(
            "duelenv/PoolDuel-v0", data=Pool(prompts, responses, truth), num_envs=16, batch=16, oracle=judge, horizon=4
        )
        agent = duelenv.agents.make("thompson", env, seed=0)
        observation, _ = env.reset(seed=0)
        over = False
        while not over:
            actions = agent.act(observation)
            following, labels, _, truncated, info = env.step(actions)
            agent.update(observation, actions, labels)
            observation, over = following, truncated.all()
        best = env.evaluate(agent)["simple_regret"][0]
        print(
            f"{info['queries'][0]} labels, simple regret {best:.2f} (at random {-np.mean(truth) + np.max(truth):.2f})"
        )
        print(", ".join(f"{name} {value:.3f}" for name, value in judge.figures().items()))
        print(judge.spent)


if __name__ == "__main__":
    main()
