"""The most memory that a round takes beside what it takes on paper, on a CPU: `duelenv bench memory`.

Every row is measured in a process of its own, from the kernel's high-water mark, above the state in which everything
is loaded and no model is there. A small world is played first, so that what libraries load on first use is in that
state too. The floor is the arithmetic of `duelenv.experiments.sizing.memory`: nothing of it is measured.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from duelenv.ground.errors import UserError
from duelenv.ground.room import bytes_text

__all__ = ["RoundPeak", "bench_memory", "memory_table"]

#: Whose rounds are measured, and with how many candidates.
AGENTS: Final = ("passive", "thompson", "selm")
CANDIDATES: Final = (2, 8, 20)
#: Prompts of a round, and most tokens of a response.
ROWS, TOKENS = 16, 32
#: Of the GPT-NeoX that is trained.
LAYERS, HIDDEN, HEADS = 4, 256, 8
#: Rounds before the one that is measured: then the optimiser has its moments.
_BEFORE: Final = 2
#: Lets the C library give back what is freed: what earlier rounds left would hide what this one takes.
_GIVE_BACK: Final = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}


@dataclass(frozen=True)
class RoundPeak:
    """Bytes of one row, all above the state without a model.

    Attributes:
        agent: Whose round it is.
        candidates: K.
        resting: Between two rounds.
        sampling: At the most while the agent chose, labels were given and the next responses were drawn.
        update: At the most while the agent learnt.
        floor: On paper, by what it is for: the parts of a `Footprint`, of activations those that the backward pass
            reads, and what a belief keeps.
        floor_sampling: On paper, the least while responses are drawn.
        floor_update: On paper, the least in a step: gradients appear while activations go.
    """

    agent: str
    candidates: int
    resting: int
    sampling: int
    update: int
    floor: Mapping[str, int]
    floor_sampling: int
    floor_update: int

    @property
    def peak(self) -> int:
        """The most that was taken."""
        return max(self.sampling, self.update)

    @property
    def least(self) -> int:
        """The most that is taken on paper."""
        return max(self.floor_sampling, self.floor_update)

    @property
    def ratio(self) -> float:
        """Of both."""
        return self.peak / self.least


def bench_memory(
    agents: Sequence[str] = AGENTS, candidates: Sequence[int] = CANDIDATES, **sizes: int
) -> Iterator[RoundPeak]:
    """Measure the peak of a round, each agent and number of candidates in a process of its own.

    Args:
        agents: Names of agents.
        candidates: Numbers of candidates.
        **sizes: `rows`, `tokens`, `layers`, `hidden` and `heads` in place of the bench's own.

    Yields:
        One result for each.

    Raises:
        UserError: The system keeps no high-water mark that can be set back, or the round could not be played.
    """
    if not Path("/proc/self/clear_refs").exists():
        raise UserError("'duelenv bench memory' reads the high-water mark of Linux, which is not here: run it there")
    for agent in agents:
        for count in candidates:
            words = json.dumps({"agent": agent, "candidates": count, **sizes})
            command = [sys.executable, "-m", "duelenv.experiments.bench.memory", words]
            done = subprocess.run(command, env=os.environ | _GIVE_BACK, capture_output=True, text=True, check=False)
            if done.returncode:
                said = (done.stderr.strip() or "nothing was said").splitlines()[-1]
                raise UserError(f"the round of {agent!r} with {count} candidates was not played ({said})")
            yield RoundPeak(**json.loads(done.stdout.splitlines()[-1]))


def memory_table(peaks: Sequence[RoundPeak]) -> str:
    """Return the results as text."""
    titles = ("resting", "sampling", "update", "peak", "floor", "ratio")
    lines = [f"{'agent':<10}{'K':>4}" + "".join(title.rjust(11) for title in titles)]
    for one in peaks:
        sizes = (one.resting, one.sampling, one.update, one.peak, one.least)
        columns = [*map(bytes_text, sizes), f"x{one.ratio:.2f}"]
        lines.append(f"{one.agent:<10}{one.candidates:>4}" + "".join(column.rjust(11) for column in columns))
    if peaks:
        lines += ["", f"the floor of {peaks[-1].agent} with K = {peaks[-1].candidates}"]
        lines += [f"{bytes_text(size):>11}  {name}" for name, size in peaks[-1].floor.items() if size]
    return "\n".join(lines)


# In the process that is measured --------------------------------------------------------------------------------------


def measure(
    agent: str,
    candidates: int,
    rows: int = ROWS,
    tokens: int = TOKENS,
    layers: int = LAYERS,
    hidden: int = HIDDEN,
    heads: int = HEADS,
) -> RoundPeak:
    """Measure a round in this process, which should do nothing else.

    Args:
        agent: Name of the agent.
        candidates: K.
        rows: Prompts of a round.
        tokens: Most tokens of a response.
        layers: Of the model.
        hidden: Its width.
        heads: Its heads.
    """
    small = _play(agent, candidates, rows, tokens, 1, 16, 2)
    small.rounds(_BEFORE)
    del small
    start = _settled()
    game = _play(agent, candidates, rows, tokens, layers, hidden, heads)
    game.rounds(_BEFORE)
    resting = _settled() - start
    _set_back()
    game.draw()
    sampling = _most() - start
    _set_back()
    game.learn()
    update = _most() - start
    found = game.footprint()
    belief = _bytes_of(game.agent.belief.state_dict()) if game.agent.belief is not None else 0
    return RoundPeak(
        agent=agent,
        candidates=candidates,
        resting=resting,
        sampling=sampling,
        update=update,
        floor={**found.parts(), "activations of a training step": found.kept, "the belief": belief},
        floor_sampling=found.sampling + belief,
        floor_update=found.floor + belief,
    )


class _Game:
    """A world with an agent, whose rounds are taken apart."""

    def __init__(self, env: Any, agent: Any, prompts: list[str]) -> None:
        self.env, self.agent, self._prompts = env, agent, prompts
        self._observation, _ = env.reset(seed=0)

    def rounds(self, count: int) -> None:
        for _ in range(count):
            self.draw()
            self.learn()

    def draw(self) -> None:
        """Choose, ask, and draw the next round's responses."""
        actions = self.agent.act(self._observation)
        following, labels, _, _, info = self.env.step(actions)
        following["responses"]  # a lazy one is made now
        self._heard = self._observation, actions, labels, info["late"]
        self._observation = following

    def learn(self) -> None:
        self.agent.update(*self._heard)

    def footprint(self) -> Any:
        from duelenv.experiments.sizing.memory import footprint_of

        return footprint_of(self.env.unwrapped.view(), self.agent, self._prompts)


def _play(agent: str, candidates: int, rows: int, tokens: int, layers: int, hidden: int, heads: int) -> _Game:
    import gymnasium

    import duelenv.agents
    from duelenv import oracles
    from duelenv.policies import CausalLMPolicy, tiny_model, toy_prompts

    model, tokenizer = tiny_model("gpt_neox", hidden=hidden, layers=layers, heads=heads, context=2 * tokens + 16)
    policy = CausalLMPolicy(model, tokenizer, max_new_tokens=tokens)
    prompts = toy_prompts(4 * rows)
    sources = {"policy": candidates}
    if agent == "selm":  # sets a response of the policy against one of the reference
        sources = {"policy": candidates - candidates // 2, "reference": candidates // 2}
    env = gymnasium.make_vec(
        "duelenv/AlignmentDuel-v0",
        num_envs=rows,
        policy=policy,
        oracle=oracles.make("length"),
        prompts=prompts,
        test_prompts=prompts[:1],
        sources=sources,
        horizon=_BEFORE + 2,
    )
    return _Game(env, duelenv.agents.make(agent, env, seed=0), prompts)


def _settled() -> int:
    """Count the bytes of the process once all that is not needed was given back."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):  # another C library
        pass
    return _status("VmRSS")


def _set_back() -> None:
    """Let the high-water mark begin at what is there now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def _most() -> int:
    return _status("VmHWM")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def _bytes_of(state: Any) -> int:
    """Count the bytes of all arrays and tensors in nested state."""
    if isinstance(state, Mapping):
        return sum(map(_bytes_of, state.values()))
    if isinstance(state, list | tuple):
        return sum(map(_bytes_of, state))
    if isinstance(state, np.ndarray):
        return state.nbytes
    return int(state.numel() * state.element_size()) if hasattr(state, "element_size") else 0


if __name__ == "__main__":
    print(json.dumps(asdict(measure(**json.loads(sys.argv[1])))))
