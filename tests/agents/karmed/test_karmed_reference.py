"""Each K-armed algorithm against a slow one written from its paper: on the same streams they choose the same pairs."""

from __future__ import annotations

from functools import partial

import gymnasium
import numpy as np
import pytest
from slow_karmed.copeland import SlowCCB, SlowSCB
from slow_karmed.eliminations import SlowBeatTheMean, SlowInterleavedFilter, SlowMergeRUCB, SlowSavage, SlowWinnerStays
from slow_karmed.intervals import SlowDTS, SlowRandom, SlowRMED1, SlowRMED2, SlowRUCB
from slow_karmed.players import SlowMultiSBM, SlowSparring, SlowVersatile

import duelenv.agents
import duelenv.agents.karmed
from duelenv.ground.randomness import RowStreams

ROWS = 6
MATRICES = {
    "transitive": 1 / (1 + np.exp(np.subtract.outer([0.0, 0.4, 0.9, 1.6, 2.2], [0.0, 0.4, 0.9, 1.6, 2.2]))),
    "cyclic": np.array([[0.5, 0.8, 0.3, 0.6], [0.2, 0.5, 0.7, 0.6], [0.7, 0.3, 0.5, 0.6], [0.4, 0.4, 0.4, 0.5]]),
}


def read_once(drawn, streams, row, *shape):
    """A round's draw of one row; the first row that asks for a shape reads it for all."""
    if shape not in drawn:
        drawn[shape] = streams.uniform(*shape)
    return drawn[shape][row]


CASES = {
    "random": (SlowRandom, {}, {}),
    "rucb": (SlowRUCB, {}, {}),
    "rucb to the letter": (SlowRUCB, {"informed": False}, {"informed": False}),
    "rmed1": (SlowRMED1, {}, {}),
    "rmed2": (SlowRMED2, {}, {}),
    "rmed2fh": (SlowRMED2, {"fixed_horizon": True}, {}),
    "dts": (SlowDTS, {}, {}),
    "dts_plus": (SlowDTS, {"plus": True}, {}),
    "sparring": (SlowSparring, {}, {}),
    "multisbm": (SlowMultiSBM, {}, {}),
    "btm": (SlowBeatTheMean, {}, {}),
    "interleaved_filter": (SlowInterleavedFilter, {}, {}),
    "savage": (SlowSavage, {}, {}),
    "winner_stays": (SlowWinnerStays, {}, {}),
    "winner_stays for weak regret": (SlowWinnerStays, {"regret": "weak"}, {"regret": "weak"}),
    "versatile": (SlowVersatile, {}, {}),
    "mergerucb": (SlowMergeRUCB, {}, {}),
    "mergerucb in pairs": (SlowMergeRUCB, {"partition": 2}, {"partition": 2}),
    "ccb": (SlowCCB, {}, {}),
    "scb": (SlowSCB, {}, {}),
    "scb in turns of five": (SlowSCB, {"patience": 5}, {"patience": 5}),
    "scb with pulls played to their end": (SlowSCB, {"patience": None}, {"patience": None}),
}
LONG = {"btm": 700, "interleaved_filter": 900, "savage": 900, "mergerucb": 600}


@pytest.mark.parametrize("kind", MATRICES)
@pytest.mark.parametrize("case", CASES)
def test_chooses_what_a_slow_one_chooses(case, kind):
    reference, slow_settings, settings = CASES[case]
    name, matrix = case.split()[0], MATRICES[kind]
    if name in ("interleaved_filter", "savage", "btm"):
        matrix = np.clip(0.5 + 1.6 * (matrix - 0.5), 0.02, 0.98)  # clear enough for eliminations
    if name == "scb":
        matrix = np.where(matrix > 0.5, 0.99, np.where(matrix < 0.5, 0.01, 0.5))[:3, :3]
    num_arms, horizon = len(matrix), LONG.get(name, 250)
    env = gymnasium.make_vec("duelenv/MatrixDuel-v0", num_envs=ROWS, matrix=matrix, horizon=horizon)
    agent = duelenv.agents.make(name, env, seed=5, **settings)
    order = RowStreams(5, f"agents/{name}/order", ROWS).uniform(num_arms).argsort(axis=1)
    streams = RowStreams(5, f"agents/{name}", ROWS)
    slow = [reference(num_arms, horizon, **slow_settings) for _ in range(ROWS)]
    observation, _ = env.reset(seed=3)
    for step in range(horizon):
        actions = agent.act(observation)
        drawn: dict[tuple[int, ...], object] = {}
        for row in range(ROWS):
            slow[row].draw = partial(read_once, drawn, streams, row)
        expected = [[order[row][arm] for arm in slow[row].act()] for row in range(ROWS)]
        assert actions.tolist() == expected, f"round {step + 1}"
        observation, labels, *_ = env.step(actions)
        labels = labels.copy()
        if step % 7 == 3:
            labels[step % ROWS] = 0.5  # a declared tie
        agent.update(observation, actions, labels)
        place = order.argsort(axis=1)
        for row in range(ROWS):
            i, j = place[row, actions[row]]
            slow[row].learn(int(i), int(j), labels[row])
    if kind == "transitive":  # what the comparison has to have seen
        if name in ("btm", "savage", "interleaved_filter"):
            assert not agent._active.all(axis=1).any()
        if name == "mergerucb":
            assert (agent._batch == -1).any(axis=1).all() and (agent._number == 1).all()
        if name == "scb":
            assert (agent._winner >= 0).all()


@pytest.mark.parametrize("name", ["random", "rucb", "dts"])
def test_rows_of_a_replicate_choose_from_one_state(name):
    """With batch = 3 each row chooses as a slow one would that has the counts of all three before the round."""
    matrix, batch, horizon = MATRICES["transitive"], 3, 60
    env = gymnasium.make_vec("duelenv/MatrixDuel-v0", num_envs=6, batch=batch, matrix=matrix, horizon=horizon)
    agent = duelenv.agents.make(name, env, seed=5)
    order = RowStreams(5, f"agents/{name}/order", 2).uniform(5).argsort(axis=1)
    streams = RowStreams(5, f"agents/{name}", 6)
    slow = [CASES[name][0](5, horizon) for _ in range(6)]
    for row in range(6):
        slow[row].wins = slow[row // batch * batch].wins
    observation, _ = env.reset(seed=3)
    for step in range(horizon):
        actions = agent.act(observation)
        drawn: dict[tuple[int, ...], object] = {}
        for row in range(6):
            slow[row].draw = partial(read_once, drawn, streams, row)
            slow[row].t = step * batch
            chosen = [order[row // batch][arm] for arm in slow[row].act()]
            assert actions[row].tolist() == chosen, f"round {step + 1}, row {row}"
        observation, labels, *_ = env.step(actions)
        agent.update(observation, actions, labels)
        for row in range(6):
            i, j = order.argsort(axis=1)[row // batch, actions[row]]
            slow[row].learn(int(i), int(j), labels[row])
