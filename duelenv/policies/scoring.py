"""Log-probs and embeddings of responses that exist already; not for drawing new ones, which is `decoding`.

Passes without gradients run in pieces of bounded memory and in evaluation mode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch.utils.checkpoint import checkpoint

from duelenv.ground.errors import UserError
from duelenv.policies.codec import Prompts
from duelenv.policies.passes import Shortcuts, base_model, evaluation, head_logits, in_full, last_hidden, pieces, run
from duelenv.policies.sampling import token_log_prob
from duelenv.policies.shared_prompt import Packed, laid_out, windows_of

# What tokens and masks may come as, [B, K, L].
Array: TypeAlias = ArrayLike | torch.Tensor

# Elements of the largest temporary of a pass without gradients: 2^27 in float32 are 0.5 GB.
_PASS_BUDGET = 2**27
#: Most logits that are there at once, with gradients and without: 2^24 in float32 are 64 MB. More are made in pieces,
#: and where gradients are asked for they are made again on the way back.
LOGITS_BUDGET = 2**24


@dataclass(frozen=True)
class Responses:
    """Given responses, cut to the longest of them: tokens int64 and mask bool, [B, K, W], with 1 <= W <= length."""

    tokens: torch.Tensor
    mask: torch.Tensor
    length: int
    """L, of the tokens as they were given."""

    @classmethod
    def given(cls, tokens: Array, mask: Array) -> Responses:
        """Check tokens and mask, both [B, K, L].

        Raises:
            UserError: shapes that do not agree.
        """
        # A copy of arrays: torch warns of those that nobody may write to, as observations are.
        token_ids = tokens.long() if isinstance(tokens, torch.Tensor) else torch.from_numpy(np.array(tokens, np.int64))
        kept = mask.bool() if isinstance(mask, torch.Tensor) else torch.from_numpy(np.array(mask, np.bool_))
        if token_ids.ndim != 3 or token_ids.shape != kept.shape or not token_ids.numel():
            raise UserError(
                f"tokens have the shape {list(token_ids.shape)} and the mask {list(kept.shape)}; expected both to be "
                "[prompts, responses, length] and not empty"
            )
        used = kept.flatten(0, 1).any(0).nonzero()
        width = int(used.max()) + 1 if used.numel() else 1  # what lies beyond it need not be run
        return cls(token_ids[..., :width], kept[..., :width], token_ids.shape[-1])

    def to(self, device: torch.device) -> Responses:
        """Move them to a device."""
        return Responses(self.tokens.to(device), self.mask.to(device), self.length)

    def check_prompts(self, prompts: Prompts) -> None:
        """Raise `UserError` unless there are as many prompts as rows of responses."""
        if len(prompts) != len(self.tokens):
            raise UserError(
                f"{len(prompts)} prompts came with responses to {len(self.tokens)}; expected tokens of the shape "
                "[prompts, responses, length]"
            )


def log_prob(model: Any, prompts: Prompts, responses: Responses, shortcuts: Shortcuts) -> torch.Tensor:
    """Compute tokens' log-probs at temperature 1, 0 off the mask: float32 [B, K, L], nats; gradients where enabled."""
    responses.check_prompts(prompts)
    tokens, mask = responses.tokens, responses.mask
    num_responses, width = tokens.shape[1:]
    if torch.is_grad_enabled():
        parts = [
            (rows, columns, _log_prob(model, part, tokens[rows, columns], mask[rows, columns], shortcuts))
            for rows, columns, part in pieces(prompts, num_responses, None, shortcuts)
        ]
    else:
        most = _affordable(model, prompts, width, shortcuts)
        with evaluation(model):
            parts = [
                (rows, columns, _log_prob(model, part, tokens[rows, columns], mask[rows, columns], shortcuts))
                for rows, columns, part in pieces(prompts, num_responses, most, shortcuts)
            ]
    values = torch.zeros(tokens.shape, device=tokens.device)
    for rows, columns, part in parts:
        values[rows, columns] = part
    return torch.nn.functional.pad(values, (0, responses.length - width))


def embed(model: Any, prompts: Prompts, responses: Responses, shortcuts: Shortcuts, width: int) -> torch.Tensor:
    """Average the last hidden layer over response tokens, without gradients: float32 [B, K, h = width]."""
    responses.check_prompts(prompts)
    tokens = responses.tokens
    num_prompts, num_responses, length = tokens.shape
    out = torch.empty((num_prompts, num_responses, width), device=tokens.device)
    most = _affordable(model, prompts, length, shortcuts)
    with torch.no_grad(), evaluation(model):
        for rows, columns, part in pieces(prompts, num_responses, most, shortcuts):
            hidden = states_of(model, part, tokens[rows, columns], shortcuts)[1].float()  # [b, k, L, h]
            weight = responses.mask[rows, columns].unsqueeze(-1).float()  # [b, k, L, 1]
            out[rows, columns] = (hidden * weight).sum(2) / weight.sum(2).clamp_min(1.0)
    return out


@dataclass(frozen=True)
class Projection:
    """Random directions in the weights of an output head, as a product: what stands for a gradient's V h numbers.

    Attributes:
        tokens: float32 [V, k], independent N(0, 1 / k).
        states: float32 [h, k], likewise.
    """

    tokens: torch.Tensor
    states: torch.Tensor

    @classmethod
    def draw(cls, vocabulary: int, width: int, k: int, seed: int, device: torch.device) -> Projection:
        """Draw one: the same on every device for the same seed.

        Args:
            vocabulary: V.
            width: h.
            k: Directions of either kind, k^2 in all.
            seed: Of the draw.
            device: Where the model lies.
        """
        generator = torch.Generator().manual_seed(seed)
        tokens, states = (torch.randn(rows, k, generator=generator) / k**0.5 for rows in (vocabulary, width))
        return cls(tokens.to(device), states.to(device))


def head_gradients(
    model: Any, prompts: Prompts, responses: Responses, shortcuts: Shortcuts, projection: Projection
) -> torch.Tensor:
    """Project the gradient of each response's log-prob by the weights of the output head: float32 [B, K, k^2].

    With the head's input s_t before token y_t and p_t what it says there, that is sum_t (e_{y_t} - p_t) s_t' for logits
    that are linear in s_t; a model that scales or caps them behind its head is taken for one. Two sides of it are
    projected, A' G C with A = tokens and C = states, so that squares of lengths and of distances are kept in
    expectation. One pass, without gradients, and no V h numbers anywhere.

    Raises:
        UserError: the model's head cannot be run apart from its body.
    """
    responses.check_prompts(prompts)
    if not shortcuts.head:
        raise UserError(
            f"{type(base_model(model)).__name__} runs its output head with its body only, so that the gradient by the "
            "head is not at hand; choose another ask rule, such as implicit_gap"
        )
    tokens, mask = responses.tokens, responses.mask
    num_prompts, num_responses, length = tokens.shape
    width = projection.tokens.shape[1]
    found = torch.zeros((num_prompts, num_responses, width, width), device=tokens.device)
    most = _affordable(model, prompts, length, shortcuts)
    with torch.no_grad(), evaluation(model):
        for rows, columns, part in pieces(prompts, num_responses, most, shortcuts):
            said, kept = tokens[rows, columns], mask[rows, columns]
            before, own = states_of(model, part, said[:, :, :-1], shortcuts)
            states = torch.cat([before, own], dim=2)[kept]  # [n, h]
            sides = torch.zeros((*said.shape, width), device=said.device)
            sides[kept] = _surprises(model, states, said[kept], projection.tokens)
            inputs = torch.zeros_like(sides)
            inputs[kept] = states.float() @ projection.states
            found[rows, columns] = torch.einsum("bklp,bklq->bkpq", sides, inputs)
    return found.flatten(2)


def _surprises(model: Any, states: torch.Tensor, tokens: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """Project e_y - p behind last hidden layers [n, h] in directions [V, k]: float32 [n, k]."""
    most = max(1, LOGITS_BUDGET // int(model.config.get_text_config().vocab_size))
    return torch.cat(
        [
            directions[said] - head_logits(model, some[None])[0].float().softmax(-1) @ directions
            for some, said in zip(states.split(most), tokens.split(most), strict=True)
        ]
    )


def _affordable(model: Any, prompts: Prompts, length: int, shortcuts: Shortcuts) -> int:
    """Count how many sequences fit in a pass without gradients."""
    config = model.config.get_text_config()
    cost = (prompts.ids.shape[1] + length) * int(config.hidden_size) * 16  # a layer's widest temporaries
    if not shortcuts.head:
        cost = max(cost, length * int(config.vocab_size))
    return max(1, _PASS_BUDGET // cost)


def _log_prob(
    model: Any, prompts: Prompts, tokens: torch.Tensor, mask: torch.Tensor, shortcuts: Shortcuts
) -> torch.Tensor:
    """Compute log-probs from the logits of response positions only, 0 off the mask: float32 [b, k, w]."""
    length = tokens.shape[2]
    if not shortcuts.head:
        flat = tokens.flatten(0, 1)
        logits = run(model, *in_full(prompts, flat[:, :-1]), shortcuts, keep=length).logits
        logits = logits[:, -length:]  # a model without logits_to_keep gives all
        values = token_log_prob(logits.flatten(0, 1), flat.flatten()).view(tokens.shape)
        return torch.where(mask, values, 0.0)
    before, own = states_of(model, prompts, tokens[:, :, :-1], shortcuts)
    states = torch.cat([before, own], dim=2)  # of the tokens that tokens follow
    values = torch.zeros(tokens.shape, device=tokens.device)
    values[mask] = _said(model, states[mask], tokens[mask])
    return values


def _said(model: Any, states: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Compute log-probs of tokens [n] behind last hidden layers [n, h], float32 [n]; logits as many as affordable."""
    most = max(1, LOGITS_BUDGET // int(model.config.get_text_config().vocab_size))

    def said(states: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return token_log_prob(head_logits(model, states[None])[0], tokens)

    if len(tokens) <= most:
        return said(states, tokens)
    again = torch.is_grad_enabled()
    return torch.cat(
        [
            checkpoint(said, *part, use_reentrant=False) if again else said(*part)
            for part in zip(states.split(most), tokens.split(most), strict=True)
        ]
    )


def states_of(
    model: Any, prompts: Prompts, tokens: torch.Tensor, shortcuts: Shortcuts
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the last hidden layer at the end of each prompt [b, k, 1, h], and at tokens [b, k, w] behind it."""
    num_responses, length = tokens.shape[1:]
    width = prompts.ids.shape[1]
    if not (width and num_responses > 1 and shortcuts.sharing) or checkpointing(model):
        states = last_hidden(model, *in_full(prompts, tokens.flatten(0, 1)), shortcuts)
        states = states.unflatten(0, (-1, num_responses))
        return states[:, :, width - 1 : width], states[:, :, width:]
    base = base_model(model)
    layout = Packed(prompts.attention, num_responses, length, windows_of(base))
    ids = torch.cat([prompts.ids, tokens.flatten(1)], dim=-1)
    with laid_out(base, layout):
        states = last_hidden(model, ids, None, shortcuts, places=layout.places())
    _, last, own = states.split([width - 1, 1, num_responses * length], dim=1)
    return last[:, None].expand(-1, num_responses, -1, -1), own.unflatten(1, (num_responses, length))


def checkpointing(model: Any) -> bool:
    """Tell whether layers will run again on the way back, when no layout is there any more."""
    return any(module.training and getattr(module, "gradient_checkpointing", False) for module in model.modules())
