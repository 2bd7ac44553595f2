"""What drawing responses and a round of alignment cost on this machine, beside others: `duelenv bench alignment`.

Drawing is timed against `generate(num_return_sequences=K)` of transformers, a round against TRL's online DPO where TRL
is installed. What is compared is timed in turn, in one process, so that all meet the same machine.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from io import StringIO
from statistics import median
from time import perf_counter, process_time
from typing import Any, Final

import numpy as np
import torch

from duelenv.experiments.bench.models import ARCHITECTURES, Shape, playing, prompts, random_model, word_tokenizer

__all__ = [
    "SYSTEMS",
    "Drawing",
    "Race",
    "Round",
    "System",
    "bench_drawing",
    "bench_rounds",
    "drawing_table",
    "round_table",
]


@dataclass(frozen=True)
class Race:
    """Sizes of what is timed.

    Attributes:
        shape: Of the model.
        batch: Prompts at once.
        prompt: Tokens of each.
        response: Most tokens of a response.
        threads: Threads of torch.
        repeats: Timed rounds; one before them is not counted.
    """

    shape: Shape = field(default_factory=Shape)
    batch: int = 16
    prompt: int = 16
    response: int = 32
    threads: int = 1
    repeats: int = 9


DRAWING: Final = Race(batch=4, prompt=252, response=48, threads=2, repeats=7)
ROUNDS: Final = Race()


@dataclass(frozen=True)
class Drawing:
    """Seconds to draw K responses to each prompt, log-probs and last hidden layers included; medians.

    Attributes:
        architecture: Of the model.
        candidates: K.
        generate: Of transformers' `generate`, which gives neither.
        own: Of `CausalLMPolicy.sample`.
    """

    architecture: str
    candidates: int
    generate: float
    own: float


@dataclass(frozen=True)
class System:
    """Who plays rounds.

    Attributes:
        agent: Its name.
        candidates: K.
        sources: Where they come from; None for the policy alone.
    """

    agent: str
    candidates: int
    sources: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Round:
    """Processor seconds of a round: drawing, a label for each prompt, and the update; a median.

    Attributes:
        name: Who.
        candidates: Responses to each prompt.
        seconds: Of a round.
    """

    name: str
    candidates: int
    seconds: float


SYSTEMS: Final = (
    System("passive", 2),
    System("selm", 2, {"policy": 1, "reference": 1}),
    System("passive", 8),
    System("thompson", 8),
    System("selm", 8, {"policy": 4, "reference": 4}),
    System("passive", 20),
    System("thompson", 20),
)


def bench_drawing(
    race: Race = DRAWING, architectures: Sequence[str] = ARCHITECTURES, candidates: Sequence[int] = (2, 8, 20)
) -> Iterator[Drawing]:
    """Time drawing against `generate`.

    Args:
        race: Sizes.
        architectures: Kinds of models.
        candidates: Numbers of responses to each prompt.
    """
    from duelenv.policies import CausalLMPolicy

    tokenizer = word_tokenizer(race.shape.vocabulary)
    texts = prompts(race.batch, race.prompt, race.shape.vocabulary)
    ids = tokenizer(texts, return_tensors="pt")["input_ids"]
    with _threads(race.threads), torch.no_grad():
        for architecture in architectures:
            model = random_model(architecture, race.shape)
            policy = CausalLMPolicy(model, tokenizer, max_new_tokens=race.response)
            for count in candidates:
                uniforms = np.random.default_rng(0).random((race.batch, count, race.response))
                ways: dict[str, Callable[[], Any]] = {
                    "generate": partial(
                        model.generate,
                        ids,
                        do_sample=True,
                        top_k=0,
                        num_return_sequences=count,
                        max_new_tokens=race.response,
                        pad_token_id=tokenizer.pad_token_id,
                    ),
                    "own": partial(policy.sample, texts, count, uniforms=uniforms, hidden=True),
                }
                seconds = _in_turn(ways, race.repeats, perf_counter)
                yield Drawing(architecture, count, seconds["generate"], seconds["own"])


def bench_rounds(race: Race = ROUNDS, systems: Sequence[System] = SYSTEMS) -> list[Round]:
    """Time a round of each system, and first a step of TRL's online DPO where TRL is installed.

    Args:
        race: Sizes.
        systems: Who plays.
    """
    with _threads(race.threads):
        players = [_player(system, race) for system in systems]
        times: list[list[float]] = [[] for _ in systems]

        def everybody() -> None:
            for number, play in enumerate(players):
                started = process_time()
                play()
                times[number].append(process_time() - started)

        others = _trl(race, everybody) if _trl_is_here() else []
        while len(times[0]) <= race.repeats:
            everybody()
    rounds = [Round("TRL online DPO", 2, median(others[1:]))] if others else []
    for system, own in zip(systems, times, strict=True):
        rounds.append(Round(system.agent, system.candidates, median(own[1:])))
    return rounds


def drawing_table(lines: Sequence[Drawing]) -> str:
    """Write the results as text."""
    rows = [f"{'model':<12}{'K':>4}{'generate s':>13}{'own s':>10}{'generate / own':>17}"]
    for line in lines:
        rows.append(
            f"{line.architecture:<12}{line.candidates:>4}{line.generate:>13.3f}{line.own:>10.3f}"
            f"{line.generate / line.own:>17.2f}"
        )
    return "\n".join(rows)


def round_table(rounds: Sequence[Round]) -> str:
    """Write the results as text, each also in rounds of `passive` with as many candidates, and in TRL's steps."""
    passive = {line.candidates: line.seconds for line in rounds if line.name == "passive"}
    trl = next((line.seconds for line in rounds if line.name.startswith("TRL")), None)
    rows = [f"{'system':<16}{'K':>4}{'s a round':>12}{'/ passive':>12}{'TRL / it':>12}"]
    for line in rounds:
        beside = f"{line.seconds / passive[line.candidates]:.2f}" if line.candidates in passive else ""
        faster = "" if trl is None else f"{trl / line.seconds:.2f}"
        rows.append(f"{line.name:<16}{line.candidates:>4}{line.seconds:>12.3f}{beside:>12}{faster:>12}")
    if trl is None:
        rows.append("TRL is not installed: pip install 'duelenv[trl]' puts its online DPO beside them")
    return "\n".join(rows)


def _player(system: System, race: Race) -> Callable[[], None]:
    """Make what plays the next round of a system."""
    import gymnasium

    import duelenv
    from duelenv import oracles
    from duelenv.policies import CausalLMPolicy

    policy = CausalLMPolicy(
        random_model("gpt_neox", race.shape), word_tokenizer(race.shape.vocabulary), max_new_tokens=race.response
    )
    settings: dict[str, Any] = {"num_candidates": system.candidates} if system.sources is None else {}
    env: Any = gymnasium.make_vec(
        "duelenv/AlignmentDuel-v0",
        num_envs=race.batch,
        policy=policy,
        oracle=oracles.make("length"),
        prompts=prompts(4 * race.batch, race.prompt, race.shape.vocabulary),
        sources=None if system.sources is None else dict(system.sources),
        horizon=10_000,
        **settings,
    )
    agent = duelenv.agents.make(system.agent, env, seed=0, learning_rate=1e-6)
    return playing(env, agent)


def _trl_is_here() -> bool:
    from importlib.util import find_spec

    return find_spec("trl") is not None and find_spec("datasets") is not None


def _trl(race: Race, between: Callable[[], None]) -> list[float]:
    """Time TRL's steps in processor seconds, tuned for this: no gradient checkpointing, one batch a step."""
    import warnings
    from importlib import import_module

    from transformers import TrainerCallback
    from transformers.utils import logging

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.seconds: list[float] = []

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.started = process_time()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.seconds.append(process_time() - self.started)
            between()

    clock = Clock()
    words, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
            warnings.simplefilter("ignore")
            datasets, trl = (import_module(name) for name in ("datasets", "trl.experimental.online_dpo"))
            texts = prompts(4 * race.batch, race.prompt, race.shape.vocabulary)
            trainer = trl.OnlineDPOTrainer(
                model=random_model("gpt_neox", race.shape),
                ref_model=random_model("gpt_neox", race.shape),
                reward_funcs=lambda prompts, completions, **_: [float(len(text)) for text in completions],
                args=trl.OnlineDPOConfig(
                    output_dir=folder,
                    per_device_train_batch_size=race.batch,
                    max_new_tokens=race.response,
                    max_length=race.prompt + race.response,
                    temperature=1.0,
                    learning_rate=1e-6,
                    max_steps=race.repeats + 1,
                    gradient_checkpointing=False,
                    bf16=False,
                    use_cpu=True,
                    report_to="none",
                    save_strategy="no",
                    logging_strategy="no",
                    disable_tqdm=True,
                ),
                train_dataset=datasets.Dataset.from_dict({"prompt": texts}),
                processing_class=word_tokenizer(race.shape.vocabulary),
                callbacks=[clock],
            )
            with redirect_stdout(StringIO()):  # its summary
                trainer.train()
    finally:
        logging.set_verbosity(words)
        if bars:
            logging.enable_progress_bar()
    return clock.seconds


def _in_turn(ways: Mapping[str, Callable[[], Any]], repeats: int, clock: Callable[[], float]) -> dict[str, float]:
    """Take median seconds of each, all in turn; the first turn does not count."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats + 1):
        for name, way in ways.items():
            started = clock()
            way()
            times[name].append(clock() - started)
    return {name: median(each[1:]) for name, each in times.items()}


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
