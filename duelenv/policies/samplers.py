"""Who draws a policy's responses: its own loop, `generate()` of transformers, or a completions server.

The seam is one method, `Sampler.draw`: token ids of prompts and the numbers that decide go in; tokens, their mask and,
where they are known, their log-probs come out, with the version of the weights that drew. How one loop draws is
`decoding`, how one server is asked is `completions`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import torch
from transformers import GenerationConfig

from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.policies.codec import Prompts
from duelenv.policies.decoding import Term, draw_responses
from duelenv.policies.passes import base_model as without_adapter
from duelenv.policies.passes import pieces
from duelenv.policies.registry import SAMPLERS
from duelenv.policies.sampling import token_log_prob

if TYPE_CHECKING:
    from duelenv.policies.causal_lm import CausalLMPolicy

#: Seeds of this many bits are taken by torch, vLLM and SGLang alike.
_SEED_BITS: Final = 31


@dataclass(frozen=True)
class Asked:
    """What a policy asks a sampler to draw: K responses to each of B prompts, at most L tokens long.

    Attributes:
        prompts: B prompts as token ids, padded on the left.
        uniforms: [B, K, L] in [0, 1): the numbers that decide each token, or what a seed is made of, see `seed`.
        temperature: 0 takes the most probable token.
        end_ids: tokens that end a response.
        pad_id: what follows the end.
        hidden: whether the mean of the last hidden layer is wanted where the sampler has it.
    """

    prompts: Prompts
    uniforms: torch.Tensor
    temperature: float
    end_ids: tuple[int, ...]
    pad_id: int
    hidden: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """(B, K, L)."""
        num_prompts, num_responses, length = self.uniforms.shape
        return num_prompts, num_responses, length


class Draws(NamedTuple):
    """What a sampler drew.

    Attributes:
        tokens: int64 [B, K, L].
        mask: bool [B, K, L], the end token included.
        log_prob: float32 [B, K, L], nats, at temperature 1 under the weights that drew, 0 off the mask; None where the
            sampler does not know them.
        version: which version of the policy's weights drew.
        hidden: float32 [B, K, h], the mean of the last hidden layer over each response; None where it is not known.
    """

    tokens: torch.Tensor
    mask: torch.Tensor
    log_prob: torch.Tensor | None
    version: int
    hidden: torch.Tensor | None = None


class Sampler(Protocol):
    """Draws responses of a policy, from its weights of this moment or of an earlier one."""

    def draw(self, policy: CausalLMPolicy, asked: Asked) -> Draws:
        """Return what was drawn.

        Args:
            policy: whose responses they are. It counts its updates in `version`, and `history` tells one course of
                updates from another.
            asked: what is to be drawn.

        Raises:
            UserError: it cannot be drawn.
        """
        ...


class OwnLoop:
    """The policy's own loop, `duelenv.policies.decoding`: one uniform number decides one token. The default.

    Args:
        mixture: the models whose logits are added.
    """

    def __init__(self, mixture: Sequence[Term]) -> None:
        self._mixture = mixture

    def draw(self, policy: CausalLMPolicy, asked: Asked) -> Draws:
        """See `Sampler`."""
        tokens, mask, log_prob = _empty(asked)
        hidden = None
        # Lighter than `no_grad`, but a sharded model would keep what it gathers here, which gradients could not use.
        with nullcontext() if policy.sharded else torch.inference_mode():
            for rows, columns, part in pieces(asked.prompts, asked.shape[1], policy.max_sequences, policy.shortcuts):
                drawn = draw_responses(
                    self._mixture,
                    part,
                    asked.uniforms[rows, columns],
                    asked.temperature,
                    policy.shortcuts,
                    end_ids=asked.end_ids,
                    pad_id=asked.pad_id,
                    hidden=asked.hidden,
                )
                piece = (rows, columns)
                tokens[piece], mask[piece], log_prob[piece] = drawn.tokens.cpu(), drawn.mask.cpu(), drawn.log_prob.cpu()
                if drawn.hidden is not None:
                    if hidden is None:
                        hidden = torch.empty((*asked.shape[:2], drawn.hidden.shape[-1]))
                    hidden[piece] = drawn.hidden.float().cpu()
        return Draws(tokens, mask, log_prob, policy.version, hidden)


class GenerateSampler:
    """`generate()` of transformers on the policy's own model: the correctness reference of the other two.

    It keeps the logits of every token of a block until that is drawn; `max_sequences` of the policy bounds them.
    """

    def draw(self, policy: CausalLMPolicy, asked: Asked) -> Draws:
        """See `Sampler`."""
        tokens, mask, log_prob = _empty(asked)
        greedy = asked.temperature == 0
        length = asked.shape[2]
        model: Any = policy.model
        # K greedy responses are one.
        drawn_columns = 1 if greedy else asked.shape[1]
        with _seeded(seed_of(asked.uniforms), policy.device), _bare_generation_config(model):
            for rows, columns, part in pieces(asked.prompts, drawn_columns, policy.max_sequences, policy.shortcuts):
                count = columns.stop - columns.start
                settings = {"do_sample": False} if greedy else {"do_sample": True, "temperature": asked.temperature}
                answer = model.generate(
                    input_ids=part.ids,
                    attention_mask=part.attention,
                    generation_config=GenerationConfig(
                        max_new_tokens=length,
                        eos_token_id=list(asked.end_ids) or None,
                        pad_token_id=asked.pad_id,
                        num_return_sequences=count,
                        use_cache=policy.shortcuts.cache,
                        top_k=0,
                        top_p=1.0,
                        output_logits=True,
                        return_dict_in_generate=True,
                        **settings,
                    ),
                )
                new = answer.sequences[:, part.ids.shape[1] :]  # [b * k, n]
                steps = [token_log_prob(step, new[:, t])[:, None] for t, step in enumerate(answer.logits)]
                there = torch.ones_like(new, dtype=torch.bool)
                if asked.end_ids:
                    ended = torch.isin(new, torch.tensor(asked.end_ids, device=new.device))
                    there = (ended.cumsum(-1) - ended.long()) == 0  # up to the first end, which is included
                piece = (rows, slice(None)) if greedy else (rows, columns)
                spare = length - new.shape[1]
                for whole, part_of, fill in (
                    (tokens, torch.where(there, new, asked.pad_id), asked.pad_id),
                    (mask, there, False),
                    (log_prob, torch.where(there, torch.cat(steps, -1), 0.0), 0.0),
                ):
                    filled = torch.nn.functional.pad(part_of.cpu(), (0, spare), value=fill)
                    whole[piece] = filled.view(len(rows), count, length).to(whole.dtype)
        return Draws(tokens, mask, log_prob, policy.version)


def seed_of(uniforms: torch.Tensor) -> int:
    """Make a seed from uniform numbers: equal numbers give equal seeds, and others almost surely another one.

    Worlds draw the numbers from (their seed, the round, the row), and so does whoever needs a seed in their place.

    Args:
        uniforms: any shape.
    """
    numbers = uniforms.detach().cpu().double().contiguous().numpy().tobytes()
    return int.from_bytes(hashlib.blake2b(numbers, digest_size=8).digest(), "big") >> (64 - _SEED_BITS)


def sampler_of(given: Sampler | Mapping[str, Any] | str | None) -> Sampler | None:
    """Make a sampler from what a user gives: a sampler, its name, or name and settings; None for the own loop.

    Raises:
        UserError: no sampler, an unknown name, or settings that it does not take.
    """
    if given is None or given == "own":
        return None
    if isinstance(given, str):
        given = {"name": given}
    if not isinstance(given, Mapping):
        if not callable(getattr(given, "draw", None)):
            raise UserError(
                f"sampler is {str(given)[:60]!r}, which draws nothing; give a name, a mapping with a name and "
                "settings, or an object with a method draw(policy, asked)"
            )
        return given
    settings = checks.mapping("sampler", given)
    name = settings.pop("name", None)
    if name == "own":
        checks.refuse_unknown("sampler: own", settings, ())
        return None
    made: Sampler = SAMPLERS.make(name, settings)
    return made


def _empty(asked: Asked) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Make room for tokens, mask and log-probs, [B, K, L] each."""
    return (
        torch.empty(asked.shape, dtype=torch.long),
        torch.empty(asked.shape, dtype=torch.bool),
        torch.empty(asked.shape),
    )


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Set torch's global generators, from which alone `generate` draws, to a seed; put back afterwards."""
    cards = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cards):
        torch.default_generator.manual_seed(seed)
        if cards:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


@contextmanager
def _bare_generation_config(model: Any) -> Iterator[None]:
    """Free a model of its own settings, such as a top_k or a penalty, which `generate` would add to those given."""
    base = without_adapter(model)
    own, base.generation_config = base.generation_config, GenerationConfig()
    try:
        yield
    finally:
        base.generation_config = own
