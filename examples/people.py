# /// script
# requires-python = ">=3.11"
# dependencies = ["duelenv[web,services]", "gymnasium", "httpx", "numpy"]
#
# [tool.uv.sources]
# duelenv = { path = "..", editable = true }
# ///
"""People as oracle: a run asks on a page, and plays on with the answers that have come. Here a script is the person.

    python examples/people.py
    python examples/people.py --wait       # be the person yourself: open the address that is printed

The page is that of `duelenv label`, on loopback, over a desk in an SQLite file. The scripted person opens it as a
browser would, reads both responses and presses the button of the shorter one. Out come how many questions were
asked, how many of them were answered in a later round, and the simple regret of the agent that learnt from the answers.
"""

import argparse
import contextlib
import re
import tempfile
import threading
from pathlib import Path

import gymnasium
import httpx
import numpy as np

import duelenv
from duelenv.data import Pool
from duelenv.experiments.labelling.app import Look, make_app
from duelenv.experiments.labelling.serving import Server, bound, url_of
from duelenv.oracles.people import Desk

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


def person(url, done) -> None:
    """Answer whatever the page shows until told that it is enough."""
    with httpx.Client(base_url=url, headers={"Origin": url.rstrip("/")}, follow_redirects=True) as browser:
        page = browser.post("/enter", data={"name": "Kim"}).text
        while not done.is_set():
            fields = dict(re.findall(r'name="(pair|post)" value="([^"]*)"', page))
            if "pair" not in fields:  # nothing to answer at the moment
                done.wait(0.05)
                page = browser.get("/").text
                continue
            left, right = re.findall(r'<div class="text">(.*?)</div>', page, re.DOTALL)[-2:]
            fields["verdict"] = "left" if len(left) < len(right) else "right"
            page = browser.post("/answer", data=fields).text


@contextlib.contextmanager
def asked(path, wait):
    """Show the desk's page while the block lasts, to a scripted person unless it is to wait for you."""
    done = threading.Event()
    with bound("127.0.0.1", 0) as opened:
        url, server = url_of("127.0.0.1", opened), Server(make_app(Desk(path), Look("an example", grows=True)), opened)
        jobs = [(server.serve_here, ())] + [(person, (url, done))] * (not wait)
        threads = [threading.Thread(target=job, args=given) for job, given in jobs]
        for thread in threads:
            thread.start()
        print(f"page {url}", flush=True)
        try:
            yield
        finally:
            done.set()
            server.stop()
            for thread in threads:
                thread.join()


def main(words=None) -> None:
    """Ask people 4 rounds of 8 duels."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--wait", action="store_true", help="wait for you in place of the scripted person")
    wait = parser.parse_args(words).wait
    texts = [[f"{task.capitalize()} slowly. {answer}" for answer in ANSWERS] for task in TASKS]
    truth = [[-len(text) / 30 for text in row] for row in texts]  # only the figure of regret knows it
    pool = Pool([f"How do I {task}?" for task in TASKS], texts, truth)
    with tempfile.TemporaryDirectory() as folder, asked(desk := Path(folder, "desk.sqlite"), wait):
        people = duelenv.oracles.make("people", desk=desk, open=8)
        env = gymnasium.make_vec("duelenv/PoolDuel-v0", data=pool, num_envs=8, batch=8, oracle=people, horizon=4)
        agent = duelenv.agents.make("thompson", env, seed=0)
        observation, _ = env.reset(seed=0)
        over, late = False, 0
        while not over:
            actions = agent.act(observation)
            following, labels, _, truncated, info = env.step(actions)
            agent.update(observation, actions, labels, info["late"])
            observation, over, late = following, truncated.all(), late + len(info["late"])
    print(f"{info['queries'][0]} questions, {late} of them answered in a later round")
    regret, at_random = env.evaluate(agent)["simple_regret"][0], np.max(truth) - np.mean(truth)
    print(f"simple regret {regret:.2f} (at random {at_random:.2f})")


if __name__ == "__main__":
    main()
