"""Finds out by trying which shortcuts a model allows; not for running policies, which is `passes`.

A pass may be spared by padding prompts to one length, by a key-value cache, by one prompt for all of its responses, and
by running the output head on the positions that matter. Every one of these is wrong for some family of models, and
mostly in silence: hybrid and recurrent models run several tokens behind a state as if there were none, others read
padding, take positions from padded ids, have no cache, or attend in ways of their own. So the model at hand is asked,
on a few short sequences: what it says to each alone, in one plain call from its beginning, is the truth, and a
shortcut is allowed where it gives the same logits, and the same gradients where they are needed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from duelenv.ground.context import Context, first_positions
from duelenv.ground.errors import UserError
from duelenv.policies.codec import Prompts
from duelenv.policies.passes import Shortcuts, base_model, evaluation, head_logits, in_full, last_hidden, run
from duelenv.policies.reading import begin
from duelenv.policies.scoring import states_of

_log = logging.getLogger(__name__)

# Tokens of the longer prompt, and of a response. A longer prompt is tried where a window of attention is that short.
_PROMPT, _RESPONSE = 40, 4
_WINDOW = 128

# Largest distance of two rows of logits, as a share of their spread, that is put down to rounding.
_ROUNDING = {torch.float64: 1e-8, torch.float32: 2e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}


def find_shortcuts(model: Any, context: Context) -> Shortcuts:
    """Find the shortcuts that a model allows.

    Args:
        model: A transformers causal language model, or a PEFT model around one.
        context: How far it may be read.

    Returns:
        The shortcuts; what is missing is logged, once for each model.

    Raises:
        UserError: The model cannot be run, or no way of running it gives one log-prob to one response: tokens depend
            on later ones, on the length, or on other rows.
    """
    name = type(base_model(model)).__name__
    with torch.no_grad(), evaluation(model):
        trial = _Trial(model, name, context)
        trial.check_plain()
        shortcuts, reasons = trial.allowed()
        trial.check_unchanged()
    if reasons:
        _log.warning("%s is run %s: %s", name, shortcuts, "; ".join(reasons))
    return shortcuts


def hidden_width(model: Any) -> int | None:
    """Find the last hidden layer's width h, which may differ from the configuration's; None if it cannot be read."""
    ids = torch.zeros((1, 1), dtype=torch.long, device=next(model.parameters()).device)
    with torch.no_grad(), evaluation(model):
        try:
            return int(last_hidden(model, ids, torch.ones_like(ids), Shortcuts(padding=False)).shape[-1])
        except Exception as error:  # a model's own code may raise anything
            _reraise_memory(error)
            return None


class _Trial:
    """Two prompts of different lengths with two responses each, and what the model says to every one alone."""

    def __init__(self, model: Any, name: str, context: Context) -> None:
        self.model, self.name = model, name
        base = base_model(model)
        self.first_positions = first_positions(base)
        config = base.config.get_text_config()
        weight = base.get_input_embeddings().weight
        self.device = weight.device
        windows = [
            value
            for key, value in config.to_dict().items()
            if ("window" in key or "chunk" in key) and isinstance(value, int) and 0 < value <= _WINDOW
        ]
        most = max([_PROMPT, *(window + 16 for window in windows)])
        limit = most + _RESPONSE if context.length is None else context.length
        long = max(2, min(most, limit - _RESPONSE))
        self.count = max(1, min(_RESPONSE, limit - long))
        self.lengths = (long, max(1, long // 3))
        kinds = [parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()]
        coarse = getattr(base, "is_quantized", False)
        if self.device.type == "cuda" and torch.get_float32_matmul_precision() != "highest":
            coarse = True
        # Of what computes, the coarsest: adapters are float32 around a model that is not.
        self.rounding = max([_ROUNDING.get(kind, 0.1) for kind in kinds] + [0.1 if coarse else 0.0])
        special: set[Any] = set()
        for role in ("pad", "bos", "eos"):
            named = getattr(config, f"{role}_token_id", None)
            special |= set(named) if isinstance(named, list | tuple) else {named}
        rows = weight.shape[0]
        words = [i for i in range(rows // 4, rows - rows // 8) if i not in special] or list(range(rows))

        def text(seed: int, length: int) -> list[int]:
            state, ids = 2 * seed + 1, []
            for _ in range(length):
                state = (state * 48_271) % 2_147_483_647
                ids.append(words[state % len(words)])
            return ids

        self.prompts = [text(seed, length) for seed, length in enumerate(self.lengths, 11)]
        self.responses = [[text(31 + 2 * r + k, self.count) for k in range(2)] for r in range(2)]

    def check_plain(self) -> None:
        """Make the truths, [r][k] of [n, V] each.

        Raises:
            UserError: The plain call fails, or depends on what comes later or on the row beside it.
        """
        try:
            self.truth = [[self._alone(self.prompts[r] + self.responses[r][k]) for k in range(2)] for r in range(2)]
            shorter = self._alone(self.prompts[0])
            beside = self._equal_rows()
        except Exception as error:  # a model's own code may raise anything
            _reraise_memory(error)
            raise UserError(
                f"{self.name} could not be run on token ids alone ({_first_line(error)}); expected a causal language "
                "model of transformers that takes input_ids and returns logits"
            ) from error
        if not all(logits.isfinite().all() for pair in self.truth for logits in pair):
            raise UserError(
                f"{self.name} gives logits that are not finite in {next(self.model.parameters()).dtype}; check its "
                "weights, or load it with dtype='float32'"
            )
        if not self._same(shorter, self.truth[0][0][: len(shorter)]):
            raise UserError(
                f"{self.name} gives a token another probability once more tokens follow it; expected a causal "
                "language model (of an encoder's kind, one with is_decoder=True in its configuration)"
            )
        if not self._same(beside, torch.stack(self.truth[0]).flatten(0, 1)):
            raise UserError(
                f"{self.name} gives a sequence other probabilities beside another one in a batch; expected a model "
                "whose rows do not depend on each other"
            )

    def check_unchanged(self) -> None:
        """Raise `UserError` if the model remembers what it was run on."""
        if not self._same(self._alone(self.prompts[0]), self.truth[0][0][: self.lengths[0]]):
            raise UserError(
                f"{self.name} keeps a state between two calls and answers the second differently; expected a model "
                "that reads each sequence afresh"
            )

    def allowed(self) -> tuple[Shortcuts, list[str]]:
        """Find the shortcuts, and for each that is missing a sentence that says why."""
        reasons: list[str] = []
        shortcuts = Shortcuts(padding=False, cache=False, sharing=False, head=False)
        failures = []
        for first in (*self.first_positions, None):
            padded = replace(shortcuts, padding=True, first_position=first)
            failure = self._failure(self._padded, padded)
            if failure is None:
                shortcuts = padded
                break
            failures.append(failure)
        else:
            reasons.append(f"padding on the left {failures[0]}")
        for field, words, probe in (
            ("head", "its head apart from its body", self._headed),
            ("cache", "a token behind its cache", self._stepped),
            ("sharing", "one prompt for several responses", self._shared),
        ):
            tried = replace(shortcuts, **{field: True})
            failure = self._failure(probe, tried)
            if failure is None:
                shortcuts = tried
            else:
                reasons.append(f"{words} {failure}")
        return shortcuts, reasons

    # What is tried: each yields logits beside the truth

    def _padded(self, shortcuts: Shortcuts) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        prompts = self._batch(range(2))
        tokens = self._tokens(range(2))
        logits = run(self.model, *in_full(prompts, tokens), shortcuts).logits
        for row, pair in enumerate(self.truth):
            for k, truth in enumerate(pair):
                yield logits[2 * row + k, -len(truth) :], truth

    def _headed(self, shortcuts: Shortcuts) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        ids = torch.tensor([self.prompts[0] + self.responses[0][0]], device=self.device)
        states = last_hidden(self.model, ids, torch.ones_like(ids), shortcuts)
        yield head_logits(self.model, states)[0], self.truth[0][0]

    def _stepped(self, shortcuts: Shortcuts) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Run token by token, with a row dropped on the way."""
        for group in self._groups(shortcuts):
            prompts, tokens = self._batch(group), self._tokens(group)
            truths = torch.stack([self.truth[r][k][-self.count - 1 :] for r in group for k in range(2)])
            reading = begin(self.model, prompts, 2, self.count, shortcuts)
            yield reading.first, truths[::2, 0]
            for step in range(self.count):
                if step == 1:
                    left = torch.arange(1, len(tokens), device=self.device)
                    reading.select(left)
                    tokens, truths = tokens[left], truths[left]
                yield reading.next(self.model, tokens[:, step]).logits, truths[:, step + 1]

    def _shared(self, shortcuts: Shortcuts) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Run a prompt once and two responses behind it: token by token, and all at once with gradients."""
        if not shortcuts.padding:
            raise ValueError("position ids cannot be given")
        if shortcuts.cache:
            yield from self._stepped(shortcuts)
        prompts, tokens = self._batch(range(2)), self._tokens(range(2)).view(2, 2, -1)
        plain = replace(shortcuts, sharing=False)
        with torch.enable_grad():
            found, truth = (self._states(prompts, tokens, way) for way in (shortcuts, plain))
        yield from zip(found, truth, strict=True)

    def _states(self, prompts: Prompts, tokens: torch.Tensor, shortcuts: Shortcuts) -> list[torch.Tensor]:
        """Compute last hidden layers at responses, and a gradient of them at what every prompt is read as."""
        width = prompts.ids.shape[1]
        with self._embedded() as read:
            states = torch.cat(states_of(self.model, prompts, tokens, shortcuts), dim=2)
            weights = (
                torch.cos(torch.arange(states.shape[-1], device=self.device))
                * torch.arange(1, 3, device=self.device)[:, None, None]
            )
            gradient = torch.autograd.grad((states.float() * weights).sum(), read[0])[0].float()
        per_prompt = gradient.unflatten(0, (len(prompts), -1))[:, :, :width].sum(1)
        real = prompts.attention.bool()
        return [states.detach(), per_prompt[real].flatten()[None]]

    @contextmanager
    def _embedded(self) -> Iterator[list[torch.Tensor]]:
        """Collect what the model reads tokens as, and make gradients reach it."""
        read: list[torch.Tensor] = []

        def keep(_: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
            read.append(output.detach().requires_grad_())
            return read[-1]

        handle = base_model(self.model).get_input_embeddings().register_forward_hook(keep)
        try:
            yield read
        finally:
            handle.remove()

    # The means

    def _alone(self, ids: list[int]) -> torch.Tensor:
        """Compute the logits of one sequence, float32 [n, V]."""
        tensor = torch.tensor([ids], device=self.device)
        logits: torch.Tensor = self.model(input_ids=tensor).logits[0]
        return logits.float()

    def _equal_rows(self) -> torch.Tensor:
        """Compute the logits of the two responses to the longer prompt side by side, float32 [2 n, V]."""
        rows = torch.tensor([self.prompts[0] + response for response in self.responses[0]], device=self.device)
        logits: torch.Tensor = run(self.model, rows, torch.ones_like(rows), Shortcuts(padding=False)).logits
        return logits.flatten(0, 1).float()

    def _groups(self, shortcuts: Shortcuts) -> list[list[int]]:
        return [[0, 1]] if shortcuts.padding else [[0], [1]]

    def _batch(self, rows: Sequence[int]) -> Prompts:
        texts = [self.prompts[row] for row in rows]
        width = max(map(len, texts))
        ids = torch.tensor([[text[0]] * (width - len(text)) + text for text in texts], device=self.device)
        attention = torch.tensor([[0] * (width - len(text)) + [1] * len(text) for text in texts], device=self.device)
        return Prompts(ids, attention)

    def _tokens(self, rows: Sequence[int]) -> torch.Tensor:
        return torch.tensor([response for row in rows for response in self.responses[row]], device=self.device)

    def _failure(
        self, probe: Callable[[Shortcuts], Iterator[tuple[torch.Tensor, torch.Tensor]]], shortcuts: Shortcuts
    ) -> str | None:
        """Find why a shortcut is not allowed, or None."""
        try:
            if all(self._same(found, truth) for found, truth in probe(shortcuts)):
                return None
        except Exception as error:  # a model's own code may raise anything, and then it does not allow it
            _reraise_memory(error)
            return f"raises {type(error).__name__} ({_first_line(error)})"
        return "changes its answers"

    def _same(self, found: torch.Tensor, truth: torch.Tensor) -> bool:
        """Tell whether rows [..., V] agree up to rounding."""
        if found.shape != truth.shape:
            return False
        found, truth = found.float(), truth.float()
        spread = (truth - truth.mean(-1, keepdim=True)).norm(dim=-1)
        floor = torch.finfo(torch.float32).eps * truth.norm(dim=-1)
        apart = (found - truth).norm(dim=-1)
        share = (apart - 8 * floor).clamp_min(0) / spread.clamp_min(1e-30)
        # In low precision a mixture of experts may send a single token elsewhere.
        worst = share.max() if self.rounding < 1e-3 else share.flatten().median()
        return bool(worst <= self.rounding)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:120]


def _reraise_memory(error: BaseException) -> None:
    """Raise an error of memory once more: a machine without room says nothing about the model."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        raise error
