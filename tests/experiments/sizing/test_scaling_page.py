"""docs/scaling.md: sizes that it states, and what its measurement prints; its commands are in `test_floor`."""

import re
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import yaml

import duelenv
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.sizing.floors import Round, floor_of
from duelenv.experiments.sizing.machines import CARDS, Machine
from duelenv.experiments.sizing.pace import pace_of
from duelenv.experiments.sizing.shapes import SHAPES

PAGE = (Path(__file__).parents[3] / "docs" / "scaling.md").read_text(encoding="utf-8")
PROMPTS, CANDIDATES, RESPONSE = 64, 20, 512


def test_a_lag_costs_what_the_page_says(capsys):
    code = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL).group(1)
    exec(compile(code, "scaling.md", "exec"), {})
    said = re.search(r"```text\n(.*?)```", PAGE, re.DOTALL).group(1)
    line = re.compile(r"(\d+) rounds, lag (\d): ([\d.]+) ± ([\d.]+), ([\d.]+) ± ([\d.]+)")
    found, rows = line.findall(capsys.readouterr().out), line.findall(said)
    assert [row[:2] for row in found] == [row[:2] for row in rows] and len(rows) == 6
    for now, then in zip(found, rows, strict=True):  # other processors round otherwise
        assert float(now[2]) == pytest.approx(float(then[2]), rel=0.05)
        assert float(now[4]) == pytest.approx(float(then[4]), rel=0.2)
    paid = {(int(rounds), int(lag)): float(regret) for rounds, lag, regret, *_ in rows}
    price = [paid[rounds, 1] - paid[rounds, 0] for rounds in (20, 60)]
    assert price[0] == pytest.approx(price[1], abs=1.0)  # paid once, however long the run is
    for rounds in (20, 60):
        assert paid[rounds, 2] - paid[rounds, 0] == pytest.approx(2 * price[0], abs=2.0)
    simple = [(float(mean), float(error)) for *_, mean, error in rows]
    for none, one, two in (simple[:3], simple[3:]):
        assert all(abs(late[0] - none[0]) < 2 * (late[1] + none[1]) for late in (one, two))


def test_the_config_of_the_page_is_one():
    raw = yaml.safe_load(re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL).group(1))
    config = RunConfig.from_dict(raw)
    assert len(config.seeds) == 6 and "six seeds" in PAGE
    assert (config.env.settings["horizon"], config.env.num_envs) == (40, 16)


def bytes_of(state):
    """Of all arrays and tensors in a state."""
    if isinstance(state, dict):
        return sum(map(bytes_of, state.values()))
    if isinstance(state, list | tuple):
        return sum(map(bytes_of, state))
    return getattr(state, "nbytes", 0)


def belief_bytes(belief, dim, labels):
    """Of a belief's state after one round of so many labels."""
    env = gymnasium.make_vec(
        "duelenv/FeatureDuel-v0", num_envs=labels, batch=labels, num_candidates=3, dim=dim, horizon=2
    )
    agent = duelenv.agents.make("thompson", env, seed=0, belief=belief)
    observation, _ = env.reset(seed=0)
    actions = agent.act(observation)
    _, won, *_ = env.step(actions)
    agent.update(observation, actions, won)
    return bytes_of(agent.state_dict()["belief"])


@pytest.mark.parametrize("dim", [16, 64, 256])
def test_beliefs_are_as_large_as_the_page_says(dim):
    assert belief_bytes("linear_logistic", dim, 8) == pytest.approx(8 * (dim**2 + dim), rel=0.02)
    labels = 8
    expected = 400 * (64 * dim + 128) + labels * 4 * (2 * dim + 41)
    assert belief_bytes("ensemble", dim, labels) == pytest.approx(expected, rel=0.02)


def test_sizes_of_the_page():
    cells = {
        "4 P K d": lambda dim: 4 * PROMPTS * CANDIDATES * dim,
        "8 (d^2 + d)": lambda dim: 8 * (dim**2 + dim),
        "400 (64 d + 128), and of each label 4 (2 d + 41)": lambda dim: 400 * (64 * dim + 128),
    }
    for formula, size in cells.items():
        stated = re.search(rf"\| {re.escape(formula)} \| ([\d.]+) MB \| ([\d.]+) MB \|", PAGE).groups()
        assert [float(number) for number in stated] == pytest.approx([size(256) / 1e6, size(8192) / 1e6], rel=0.006)
    stated = float(re.search(r"64 labels with their features are 4 P 2 d bytes, ([\d.]+) MB", PAGE).group(1))
    assert stated == pytest.approx(4 * PROMPTS * 2 * 8192 / 1e6, abs=0.005)
    assert round(16 * PROMPTS * CANDIDATES * RESPONSE / 1e6) == 10 and "16 bytes each, 10 MB" in PAGE
    assert round(8 * PROMPTS * (1024 + 2 * RESPONSE) / 1e6) == 1 and "go to the trainers, 1 MB:" in PAGE


def test_ways_to_send_weights():
    shape, machine, trainers = SHAPES["70b"], Machine(CARDS["h200"], 16, 8), Machine(CARDS["h200"], 16)
    pace = pace_of(floor_of(shape, Round(), machine, trainers))
    stated = re.findall(r"^\| [^|]+ \| ([\d.]+) s \| [^|]*(?:vLLM|publish)", PAGE, re.MULTILINE)
    whole = 2 * shape.parameters
    assert [float(number) for number in stated] == pytest.approx(
        [pace.transfer, pace.broadcast, 2 * whole / 2e9], rel=0.003
    )
    assert f"of W = {whole / 1e9:.0f} GB" in PAGE
    assert f"An adapter of rank 16 is {2 * shape.adapter(16) / 1e6:.1f} MB" in PAGE


def test_a_round_of_random_duels_costs_what_the_page_says():
    env = gymnasium.make_vec("duelenv/FeatureDuel-v0", num_envs=64 * 16, batch=16, num_candidates=8, dim=8, horizon=5)
    agent = duelenv.agents.make("random", env, seed=0)
    observation, _ = env.reset(seed=0)
    paid = []
    for _ in range(5):
        observation, _, _, _, info = env.step(agent.act(observation))
        paid.append(16 * info["regret"]["average"].mean())
    stated = float(re.search(r"a round of random duels costs ([\d.]+)", PAGE).group(1))
    assert np.mean(paid) == pytest.approx(stated, abs=0.1)
