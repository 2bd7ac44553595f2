"""Log-probs and embeddings of responses that exist already; not for drawing new ones, which is `decoding`.

Passes without gradients run in pieces of bounded memory and in evaluation mode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike

from duelenv.ground.errors import UserError
from duelenv.policies.codec import Prompts
from duelenv.policies.passes import (
    Shortcuts,
    behind,
    evaluation,
    last_hidden,
    pieces,
    prefill,
    run_behind,
    sharing_pays,
)
from duelenv.policies.sampling import token_log_prob

# What tokens and masks may come as, [B, K, L].
Array: TypeAlias = ArrayLike | torch.Tensor

# Elements of the largest temporary of a pass without gradients: 2^27 float32 logits are 0.5 GB.
_PASS_BUDGET = 2**27


@dataclass(frozen=True)
class Responses:
    """Given responses, cut to the longest of them: tokens int64 and mask bool, [B, K, W], with 1 <= W <= length."""

    tokens: torch.Tensor
    mask: torch.Tensor
    length: int
    """L, of the tokens as they were given."""

    @classmethod
    def given(cls, tokens: Array, mask: Array) -> Responses:
        """Checks tokens and mask, both [B, K, L].

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
        """The same on a device."""
        return Responses(self.tokens.to(device), self.mask.to(device), self.length)

    def check_prompts(self, prompts: Prompts) -> None:
        """Raise `UserError` unless there are as many prompts as rows of responses."""
        if len(prompts) != len(self.tokens):
            raise UserError(
                f"{len(prompts)} prompts came with responses to {len(self.tokens)}; expected tokens of the shape "
                "[prompts, responses, length]"
            )


def log_prob(model: Any, prompts: Prompts, responses: Responses, shortcuts: Shortcuts) -> torch.Tensor:
    """float32 [B, K, L], nats: each token's log-prob at temperature 1, and 0 off the mask; gradients where enabled."""
    responses.check_prompts(prompts)
    tokens = responses.tokens
    num_responses, width = tokens.shape[1:]
    values = torch.zeros(tokens.shape, device=tokens.device)
    if torch.is_grad_enabled():
        for rows, columns, part in pieces(prompts, num_responses, None, shortcuts):
            values[rows, columns] = _log_prob(model, part, tokens[rows, columns], shortcuts)
    else:
        cost = width * int(model.config.get_text_config().vocab_size)
        with evaluation(model):
            for rows, columns, part in pieces(prompts, num_responses, _affordable(cost), shortcuts):
                values[rows, columns] = _log_prob(model, part, tokens[rows, columns], shortcuts)
    values = torch.where(responses.mask, values, 0.0)
    return torch.nn.functional.pad(values, (0, responses.length - width))


def embed(model: Any, prompts: Prompts, responses: Responses, shortcuts: Shortcuts, width: int) -> torch.Tensor:
    """float32 [B, K, h = width]: the mean of the last hidden layer over response tokens, without gradients."""
    responses.check_prompts(prompts)
    tokens = responses.tokens
    num_prompts, num_responses, length = tokens.shape
    out = torch.empty((num_prompts, num_responses, width), device=tokens.device)
    cost = (prompts.ids.shape[1] + length) * width * 16  # a layer's widest temporaries
    with torch.no_grad(), evaluation(model):
        for rows, columns, part in pieces(prompts, num_responses, _affordable(cost), shortcuts):
            hidden = _hidden(model, part, tokens[rows, columns], shortcuts).float()  # [b, k, L, h]
            weight = responses.mask[rows, columns].unsqueeze(-1).float()  # [b, k, L, 1]
            out[rows, columns] = (hidden * weight).sum(2) / weight.sum(2).clamp_min(1.0)
    return out


def _affordable(cost: int) -> int:
    """How many sequences fit in a pass, at `cost` elements each."""
    return max(1, _PASS_BUDGET // cost)


def _log_prob(model: Any, prompts: Prompts, tokens: torch.Tensor, shortcuts: Shortcuts) -> torch.Tensor:
    """float32 [B, K, L]: the logits of response positions only, each prompt run once where that pays."""
    num_responses, length = tokens.shape[1:]
    flat = tokens.flatten(0, 1)  # [B * K, L]
    if not sharing_pays(model, prompts, num_responses, shortcuts):
        logits = run_behind(model, prompts, flat[:, :-1], shortcuts, keep=length)
        logits = logits[:, -length:]  # a model without logits_to_keep gives all
        return token_log_prob(logits, flat.unsqueeze(-1)).view(tokens.shape)
    prompt_logits, cache = prefill(model, prompts, num_responses, shortcuts)
    first = token_log_prob(prompt_logits, tokens[:, :, 0]).view(-1, 1)
    if length == 1:
        return first.view(tokens.shape)
    logits = run_behind(model, prompts, flat[:, :-1], shortcuts, cache=cache)
    rest = token_log_prob(logits, flat[:, 1:].unsqueeze(-1)).squeeze(-1)
    return torch.cat([first, rest], dim=-1).view(tokens.shape)


def _hidden(model: Any, prompts: Prompts, tokens: torch.Tensor, shortcuts: Shortcuts) -> torch.Tensor:
    """[B, K, L, h]: the last hidden layer at the response tokens."""
    num_responses, length = tokens.shape[1:]
    cache = None
    if sharing_pays(model, prompts, num_responses, shortcuts):
        _, cache = prefill(model, prompts, num_responses, shortcuts)
    ids, attention = behind(prompts, tokens.flatten(0, 1), cached=cache is not None)
    states = last_hidden(model, ids, attention, shortcuts, cache=cache)
    return states[:, -length:].view(*tokens.shape, -1)
