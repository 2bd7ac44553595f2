"""Fills in one table on one GPU, in one call of some minutes: `duelenv bench gpu`.

Drawing 20 responses to each of 64 prompts by a model of 1B parameters with random weights, beside `generate`; a round
of two agents; a model of 8B that trains by LoRA. What does not fit is a line of the table and no end of it.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any, Final

import numpy as np
import torch

from duelenv.experiments.bench.models import Shape, playing, prompts, random_model, word_tokenizer
from duelenv.experiments.sizing.memory import bytes_text
from duelenv.ground.errors import UserError

__all__ = ["FULL", "QUICK", "Line", "Plan", "bench_gpu", "gpu_table"]


@dataclass(frozen=True)
class Plan:
    """Sizes of what is measured.

    Attributes:
        small: Of the model that draws and plays rounds, a GPT-NeoX.
        large: Of the model that trains by LoRA, a Llama.
        batch: Prompts of a round.
        candidates: Responses to each.
        prompt: Tokens of a prompt.
        response: Tokens of a response.
        generated: Prompts of one call of `generate`, whose cache holds each prompt for every response.
        micro_batch: Pairs in one pass of training.
        dtype: Of the weights.
    """

    small: Shape
    large: Shape
    batch: int
    candidates: int
    prompt: int
    response: int
    generated: int
    micro_batch: int
    dtype: torch.dtype


FULL: Final = Plan(
    small=Shape(layers=16, hidden=2048, heads=8, groups=8, feedforward=8192, vocabulary=50_304, context=2048),
    large=Shape(layers=32, hidden=4096, heads=32, groups=8, feedforward=14_336, vocabulary=128_256, context=4096),
    batch=64,
    candidates=20,
    prompt=512,
    response=53,
    generated=8,
    micro_batch=8,
    dtype=torch.bfloat16,
)
QUICK: Final = Plan(
    small=Shape(layers=1, hidden=32, feedforward=64, vocabulary=96, context=64),
    large=Shape(layers=1, hidden=32, feedforward=64, groups=2, vocabulary=96, context=64),
    batch=2,
    candidates=3,
    prompt=5,
    response=4,
    generated=1,
    micro_batch=1,
    dtype=torch.float32,
)


@dataclass(frozen=True)
class Line:
    """One measurement.

    Attributes:
        what: It.
        seconds: Of one pass; None where it did not fit.
        tokens: Drawn in it; 0 where none are.
        peak: Bytes of the device at most, where it counts them.
    """

    what: str
    seconds: float | None
    tokens: int = 0
    peak: int | None = None


def bench_gpu(plan: Plan = FULL, device: str = "cuda") -> Iterator[Line]:
    """Measure one thing after another.

    Args:
        plan: Sizes.
        device: Where.

    Raises:
        UserError: There is no such device, or no peft.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError("'duelenv bench gpu' needs a GPU that torch can use, and there is none; see it work by --quick")
    tokenizer = word_tokenizer(plan.small.vocabulary)
    drawn = plan.batch * plan.candidates * plan.response
    for name, make in (("draw, generate()", _generating), ("draw, own loop", _drawing)):
        yield _measured(name, partial(make, plan, tokenizer, device), device, tokens=drawn)
    for agent in ("passive", "thompson"):
        yield _measured(f"round, {agent}", partial(_playing, plan, tokenizer, device, agent), device)
    yield _measured("LoRA step on the large model", partial(_training, plan, device), device)


def gpu_table(lines: list[Line], plan: Plan, device: str) -> str:
    """Write the measurements as Markdown, with where they were made."""
    card = torch.cuda.get_device_name() if device.startswith("cuda") else platform.processor() or platform.machine()
    rows = [
        f"{card}, torch {torch.__version__}; {plan.batch} prompts x {plan.candidates} responses, "
        f"{plan.prompt} + {plan.response} tokens, {str(plan.dtype).removeprefix('torch.')}",
        "",
        "| what | seconds | tokens a second | peak memory |",
        "| :-- | --: | --: | --: |",
    ]
    for line in lines:
        seconds = "does not fit" if line.seconds is None else f"{line.seconds:.3f}"
        speed = f"{line.tokens / line.seconds:,.0f}" if line.tokens and line.seconds else ""
        rows.append(f"| {line.what} | {seconds} | {speed} | {'' if line.peak is None else bytes_text(line.peak)} |")
    return "\n".join(rows)


def _measured(what: str, make: Callable[[], Callable[[], Any]], device: str, *, tokens: int = 0) -> Line:
    """Measure the second of two passes; the first warms everything up."""
    cuda = device.startswith("cuda")
    try:
        once = make()
        once()
        if cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        started = perf_counter()
        once()
        if cuda:
            torch.cuda.synchronize()
        seconds = perf_counter() - started
        peak = torch.cuda.max_memory_allocated() if cuda else None
    except torch.OutOfMemoryError:
        return Line(what, None)
    finally:
        once = None  # type: ignore[assignment]
        if cuda:
            torch.cuda.empty_cache()
    return Line(what, seconds, tokens, peak)


def _generating(plan: Plan, tokenizer: Any, device: str) -> Callable[[], Any]:
    model = random_model("gpt_neox", plan.small, device=device, dtype=plan.dtype)
    texts = prompts(plan.batch, plan.prompt, plan.small.vocabulary)
    ids = tokenizer(texts, return_tensors="pt")["input_ids"].to(device)

    @torch.no_grad()
    def once() -> None:
        for part in ids.split(plan.generated):
            model.generate(
                part,
                do_sample=True,
                top_k=0,
                num_return_sequences=plan.candidates,
                min_new_tokens=plan.response,
                max_new_tokens=plan.response,
                pad_token_id=tokenizer.pad_token_id,
            )

    return once


def _drawing(plan: Plan, tokenizer: Any, device: str) -> Callable[[], Any]:
    policy = _policy(plan, tokenizer, device)
    texts = prompts(plan.batch, plan.prompt, plan.small.vocabulary)
    uniforms = np.random.default_rng(0).random((plan.batch, plan.candidates, plan.response))
    return lambda: policy.sample(texts, plan.candidates, uniforms=uniforms, hidden=True)


def _playing(plan: Plan, tokenizer: Any, device: str, name: str) -> Callable[[], Any]:
    import gymnasium

    import duelenv
    from duelenv import oracles

    policy = _policy(plan, tokenizer, device)
    env: Any = gymnasium.make_vec(
        "duelenv/AlignmentDuel-v0",
        num_envs=plan.batch,
        policy=policy,
        oracle=oracles.make("length"),
        prompts=prompts(4 * plan.batch, plan.prompt, plan.small.vocabulary),
        num_candidates=plan.candidates,
        horizon=1_000,
    )
    agent = duelenv.agents.make(name, env, seed=0, learning_rate=1e-6, micro_batch=plan.micro_batch)
    return playing(env, agent)


def _training(plan: Plan, device: str) -> Callable[[], Any]:
    """Make a step on the pairs of a round."""
    from duelenv.agents.trainer import Trainer, TrainerSettings
    from duelenv.policies import CausalLMPolicy
    from duelenv.policies.loading import add_lora

    model = add_lora(random_model("llama", plan.large, device=device, dtype=plan.dtype), {"r": 16})
    policy = CausalLMPolicy(model, word_tokenizer(plan.large.vocabulary), max_new_tokens=plan.response)
    trainer = Trainer(policy, TrainerSettings(learning_rate=1e-6, micro_batch=plan.micro_batch))
    texts = prompts(plan.batch, plan.prompt, plan.large.vocabulary)
    tokens = np.random.default_rng(0).integers(2, plan.large.vocabulary, size=(plan.batch, 2, plan.response))
    mask = np.ones_like(tokens)

    def terms() -> Iterator[torch.Tensor]:
        for part in trainer.pieces(plan.batch):
            log_prob = policy.log_prob(texts[part], tokens[part], mask[part])
            yield -torch.nn.functional.logsigmoid(log_prob[:, 0] - log_prob[:, 1]).sum() / plan.batch

    return lambda: trainer.train(terms, 1)


def _policy(plan: Plan, tokenizer: Any, device: str) -> Any:
    from duelenv.policies import CausalLMPolicy

    model = random_model("gpt_neox", plan.small, device=device, dtype=plan.dtype)
    return CausalLMPolicy(model, tokenizer, max_new_tokens=plan.response)
