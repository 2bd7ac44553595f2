"""Wraps any transformers causal language model as a policy: sample, score, embed, save; not a trainer and not a loss.

The class keeps what each part needs together: `roles` knows whose weights play the policy, its reference and its
start, `codec` turns prompts into tokens, `decoding` draws responses and `scoring` reads given ones.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from transformers import AutoTokenizer, PreTrainedModel

from duelenv.ground import checks
from duelenv.ground.checkpoints import refused_as
from duelenv.ground.context import context_of
from duelenv.ground.devices import usable_device
from duelenv.ground.errors import UserError
from duelenv.policies import export, loading, scoring, sharding
from duelenv.policies.codec import Codec, Prompts
from duelenv.policies.decoding import Term, uniform_numbers
from duelenv.policies.passes import base_model as without_adapter
from duelenv.policies.passes import evaluation
from duelenv.policies.roles import Role, read_model, roles_of
from duelenv.policies.samplers import Asked, OwnLoop, Sampler, sampler_of
from duelenv.policies.sampling import Samples
from duelenv.policies.saved import SETTINGS, Record
from duelenv.policies.scoring import Array, Responses
from duelenv.policies.shortcuts import find_shortcuts, hidden_width

Source = Literal["policy", "reference", "start", "pilaf_plus", "pilaf_minus"]


class CausalLMPolicy:
    """A causal language model as the policy of an alignment duel.

    The policy keeps three sets of weights: the `policy` that learns, the `start` it began from, which never changes,
    and the `reference` of the KL penalty, which is the start until `move_reference` makes it a copy of the policy.
    Under PEFT the start is the model with its adapter disabled and a moved reference is a second adapter, so no
    weights are copied.

    The model is put in evaluation mode, so that sampling and training see the same distribution (no dropout); for
    gradient checkpointing call `policy.model.train()`, which sampling and passes without gradients undo for their
    own duration.

    Args:
        model: any transformers causal language model, or a PEFT model around one.
        tokenizer: its tokenizer.
        max_new_tokens: L, the longest response in tokens, its end-of-sequence token included.
        temperature: of `sample`; log-probs are at temperature 1 whatever it is.
        chat_template: whether a prompt is a dialogue, or a user's message, to be put in the tokenizer's chat template.
        chat_template_kwargs: what the template is told besides, such as {"enable_thinking": False}.
        max_sequences: most responses decoded at once, which bounds the memory of key-value caches; None for all.
        device: where to move the model; where it is if None.
        sampler: who draws a world's candidates from the policy, see `duelenv.policies.samplers`: a sampler, its name,
            or a mapping of its name and settings, such as {"name": "completions", "url": ..., "model": ...}; None for
            the policy's own loop, which draws everything else whoever draws the candidates.

    Attributes:
        shortcuts: how the model may be run, as it was found out on the model itself when it was wrapped: which of
            padding, a cache and a shared prompt leave its log-probs (and gradients) as they are.
        version: int, how many updates the weights have had; a learner calls `updated()` after each optimizer step.
        reference_version: int, the version that the reference is a copy of; 0 while it is the start.
        history: tells one course of updates from another, in which a version is of other weights; new after `clone`
            and `load_state_dict`.

    Raises:
        UserError: for settings out of range, a chat template that the tokenizer lacks, or a model that gives one
            response different log-probs depending on what is around it.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Any,
        *,
        max_new_tokens: int = 32,
        temperature: float = 1.0,
        chat_template: bool = False,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        max_sequences: int | None = None,
        device: str | torch.device | None = None,
        sampler: Sampler | Mapping[str, Any] | str | None = None,
    ) -> None:
        self.max_new_tokens = checks.integer("max_new_tokens", max_new_tokens, low=1)
        self.temperature = checks.number("temperature", temperature, low=0)
        self.max_sequences = None if max_sequences is None else checks.integer("max_sequences", max_sequences, low=1)
        self._sampler = sampler_of(sampler)
        self.version = 0
        self.reference_version = 0
        self.history = object()
        loading.check_adapter(model)
        context = context_of(without_adapter(model))
        self._codec = Codec(
            tokenizer,
            without_adapter(model),
            context,
            chat_template=chat_template,
            chat_template_kwargs=chat_template_kwargs,
        )
        if device is not None:
            model.to(usable_device(device))  # type: ignore[arg-type]
        model.eval()
        self.shortcuts = find_shortcuts(model, context)
        self._hidden_width = hidden_width(model)
        self._roles = roles_of(model)

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        max_new_tokens: int = 32,
        temperature: float = 1.0,
        chat_template: bool = False,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        max_sequences: int | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype = "auto",
        lora: Mapping[str, Any] | None = None,
        sampler: Sampler | Mapping[str, Any] | str | None = None,
    ) -> CausalLMPolicy:
        """Load a model and its tokenizer from a folder or a hub name; code from the hub is never run.

        Args:
            path: of a model, or of an adapter, which then goes on being trained on its base model.
            max_new_tokens: as of the class, and so are those that follow.
            temperature: see there.
            chat_template: see there.
            chat_template_kwargs: see there.
            max_sequences: see there.
            device: see there.
            dtype: of the weights, such as "bfloat16"; "auto" takes the checkpoint's. A learner keeps weights of less
                than 32 bits in float32 beside them.
            lora: settings of `peft.LoraConfig` for a new adapter, which alone is trained, such as {"r": 16}.
            sampler: see there.

        Raises:
            UserError: nothing loadable at `path`, a checkpoint that lacks weights or is of another kind of model, or a
                setting that is refused.
        """
        sampler = sampler_of(sampler)  # loading takes longer than refusing
        with refused_as(
            lambda reason: (
                f"no causal language model with a tokenizer could be loaded from {str(path)!r}; expected a folder "
                f"written by save_pretrained or a hub name ({reason})"
            )
        ):
            model = loading.load_model(path, dtype=dtype)
            tokenizer = loading.load_tokenizer(path)
        if lora is not None:
            model = loading.add_lora(model, lora)
        return cls(
            model,
            tokenizer,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            chat_template=chat_template,
            chat_template_kwargs=chat_template_kwargs,
            max_sequences=max_sequences,
            device=device,
            sampler=sampler,
        )

    # What a caller asks about the model

    @property
    def model(self) -> PreTrainedModel:
        """The trainable transformers (or PEFT) model."""
        model: PreTrainedModel = self._roles.model
        return model

    @property
    def sampler(self) -> Sampler | None:
        """Who draws a world's candidates from the policy; None for its own loop. What the class takes may be set."""
        return self._sampler

    @sampler.setter
    def sampler(self, given: Sampler | Mapping[str, Any] | str | None) -> None:
        self._sampler = sampler_of(given)

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self._codec.tokenizer

    @property
    def chat_template(self) -> bool:
        """Whether prompts are put in the tokenizer's chat template."""
        return self._codec.chat_template

    @property
    def chat_template_kwargs(self) -> dict[str, Any]:
        """What the template is told besides."""
        return self._codec.chat_template_kwargs

    @property
    def device(self) -> torch.device:
        """Where the model's first parameter lies; inputs are sent there."""
        return next(self.model.parameters()).device

    @property
    def hidden_size(self) -> int:
        """Width h of `embed`'s vectors.

        Raises:
            UserError: the model's last hidden layer cannot be read.
        """
        if self._hidden_width is None:
            raise UserError(
                f"{type(without_adapter(self.model)).__name__} has no last hidden layer that could be read; give the "
                "world an encoder as features"
            )
        return self._hidden_width

    @property
    def context_length(self) -> int | None:
        """Most tokens of a prompt and its response together; None where the model states no limit."""
        return self._codec.context_length

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Every token id that ends a response, the tokenizer's own first."""
        return self._codec.end_ids

    @property
    def vocabulary_size(self) -> int:
        """Number of token ids V."""
        return int(self.model.config.get_text_config().vocab_size)

    def check_prompts(self, prompts: Sequence[str]) -> None:
        """Raise `UserError` unless there are prompts, and every one fits the context with a full-length response."""
        self._codec.check(prompts, self.max_new_tokens)

    def tokens_of(self, responses: NDArray[np.object_]) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
        """Find tokens and mask [..., L] of responses that somebody else wrote, L = `max_new_tokens`.

        What the policy itself has said is trained on in the tokens that it drew, never in these.

        Args:
            responses: Texts, object [...].

        Raises:
            UserError: A response is longer than the policy's own may be, or has no tokens.
        """
        tokens, mask = self._codec.encode_responses(responses.ravel().tolist(), self.max_new_tokens)
        shape = (*responses.shape, self.max_new_tokens)
        return tokens.reshape(shape), mask.reshape(shape)

    def prompt_lengths(self, prompts: Sequence[str]) -> NDArray[np.int64]:
        """Count the tokens of each prompt, int64 [B].

        Raises:
            UserError: As `check_prompts`, but for the room that a response needs.
        """
        return np.array([len(ids) for ids in self._codec.check(prompts, 0)], np.int64)

    def decode(self, tokens: NDArray[np.int64], mask: NDArray[np.int8]) -> NDArray[np.object_]:
        """Write tokens [..., L] under their mask as texts without special tokens: object [...]."""
        return self._codec.decode(tokens, mask)

    def parameters(self) -> list[torch.nn.Parameter]:
        """List the trainable parameters, for an optimizer."""
        sharding.gathered_apart(self.model)
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def is_start(self, source: Source) -> bool:
        """Tell whether a source draws from the start's weights: until the first update, or move of the reference."""
        if source == "reference":  # files of version 0.1 do not say when it moved
            return self.reference_version == 0 and not self._roles.moved
        return source == "start" or (source == "policy" and self.version == 0)

    def updated(self) -> None:
        """Count one change of the weights; a learner calls it after each optimizer step.

        Until then what the policy draws counts as drawn by the version before, at 0 by the start.
        """
        self.version += 1

    # Sampling

    def sample(
        self,
        prompts: Sequence[str],
        num_responses: int,
        *,
        uniforms: ArrayLike | None = None,
        generator: torch.Generator | None = None,
        source: Source = "policy",
        temperature: float | None = None,
        beta: float = 0.1,
        hidden: bool = False,
        sampler: Sampler | None = None,
    ) -> Samples:
        """Draw K responses to each of B prompts.

        One uniform number decides one token, so the same numbers give the same tokens whatever else is in the batch
        (up to the rounding of the model's matrix products), and however `max_sequences` divides it.

        Args:
            prompts: B strings.
            num_responses: K.
            uniforms: [B, K, max_new_tokens] in [0, 1). Exactly one of `uniforms` and `generator` is needed, except
                at temperature 0.
            generator: draws the uniform numbers if they are not given.
            source: which distribution. PILAF's (Feng et al. 2025, arXiv 2502.04270) `pilaf_plus` and `pilaf_minus`
                have the token logits (1 + beta) policy - beta reference and (1 - beta) policy + beta reference.
            temperature: instead of the policy's own; 0 takes the most probable token.
            beta: of PILAF's two sources; the others ignore it.
            hidden: whether to keep the last hidden layer, see `Samples`.
            sampler: who draws, from the source "policy" alone, such as `policy.sampler`; it may have the weights of an
                earlier version, and of the uniform numbers perhaps only a seed. None for the own loop.

        Raises:
            UserError: no prompts, a prompt that is too long or without tokens, uniforms of the wrong shape or range,
                an unknown source, no source of randomness or two, or a sampler that cannot draw.
        """
        checks.integer("num_responses", num_responses, low=1)
        temperature = checks.number("temperature", self.temperature if temperature is None else temperature, low=0)
        mixture = [Term(weight, partial(self._roles.playing, role)) for role, weight in _mixture(source, beta)]
        batch = self._codec.encode(prompts, self.max_new_tokens).to(self.device)
        shape = (len(batch), num_responses, self.max_new_tokens)
        numbers = uniform_numbers(uniforms, generator, shape, needed=temperature > 0)
        if sampler is not None:
            self._check_sampler(source)
        asked = Asked(
            prompts=batch,
            uniforms=numbers,
            temperature=temperature,
            end_ids=self._codec.end_ids,
            pad_id=self._codec.pad_id,
            hidden=hidden and len(mixture) == 1 and self._hidden_width is not None,
        )
        with torch.no_grad(), evaluation(self.model):
            draws = (sampler or OwnLoop(mixture)).draw(self, asked)
        if draws.tokens.shape != shape or draws.mask.shape != shape:
            raise UserError(
                f"{type(sampler).__name__} drew tokens of shape {list(draws.tokens.shape)} under a mask of shape "
                f"{list(draws.mask.shape)}, expected [prompts, responses, max_new_tokens] = {list(shape)}"
            )
        tokens, mask = draws.tokens.numpy(), draws.mask.numpy().astype(np.int8)
        if draws.log_prob is None:
            log_prob = np.full(shape[:2], np.nan, np.float32)
        else:
            log_prob = draws.log_prob.double().sum(-1).numpy().astype(np.float32)
        return Samples(
            tokens=tokens,
            mask=mask,
            log_prob=log_prob,
            texts=self._codec.decode(tokens, mask),
            hidden=None if draws.hidden is None else draws.hidden.numpy(),
            version=draws.version if source == "policy" else None,
        )

    def _check_sampler(self, source: str) -> None:
        """Raise `UserError` where a sampler would draw what it cannot."""
        if source != "policy":
            raise UserError(f"a sampler draws from the policy alone, not from {source!r}; leave it to the own loop")
        if self.sharded or sharding.others():
            raise UserError(
                "several processes train the policy and each would ask the sampler, which need not answer them alike; "
                "leave sampler out"
            )

    # Scoring

    def log_prob(self, prompts: Sequence[str], tokens: Array, mask: Array, *, per_token: bool = False) -> torch.Tensor:
        """Compute log-probs of given responses under the policy, at temperature 1 over the full vocabulary.

        Gradients flow where they are enabled; under `torch.no_grad()` the pass runs in pieces of bounded memory and
        in evaluation mode.

        Args:
            prompts: B strings.
            tokens: int64 [B, K, L], as `sample` returns them.
            mask: [B, K, L], 1 on response tokens.
            per_token: whether to keep the tokens apart.

        Returns:
            float32 [B, K], nats, summed over the mask; with `per_token` [B, K, L], 0 off the mask.

        Raises:
            UserError: shapes that do not agree, or a prompt that is too long.
        """
        return self._log_prob("policy", prompts, tokens, mask, per_token)

    def reference_log_prob(
        self, prompts: Sequence[str], tokens: Array, mask: Array, *, per_token: bool = False
    ) -> torch.Tensor:
        """Compute `log_prob` under the reference and without gradients."""
        with torch.no_grad():
            return self._log_prob("reference", prompts, tokens, mask, per_token)

    def start_log_prob(
        self, prompts: Sequence[str], tokens: Array, mask: Array, *, per_token: bool = False
    ) -> torch.Tensor:
        """Compute `log_prob` under the frozen start model and without gradients."""
        with torch.no_grad():
            return self._log_prob("start", prompts, tokens, mask, per_token)

    def score(
        self, prompts: Sequence[str], tokens: Array, mask: Array, *, source: Role = "policy"
    ) -> NDArray[np.float32]:
        """Compute log-probs as an array, without gradients: what an observation holds.

        Args:
            prompts: B strings.
            tokens: int64 [B, K, L].
            mask: [B, K, L], 1 on response tokens.
            source: which model scores: "policy", "reference" or "start".

        Returns:
            float32 [B, K], nats, summed over the mask.

        Raises:
            UserError: as `log_prob`, or an unknown source.
        """
        checks.one_of("source", source, get_args(Role))
        with torch.no_grad():
            return self._log_prob(source, prompts, tokens, mask, per_token=False).cpu().numpy()

    def _log_prob(
        self, role: Role, prompts: Sequence[str], tokens: Array, mask: Array, per_token: bool
    ) -> torch.Tensor:
        responses = Responses.given(tokens, mask)
        batch = self._codec.encode(prompts, responses.length)
        with self._roles.playing(role) as model:
            values = scoring.log_prob(model, batch.to(self.device), responses.to(self.device), self.shortcuts)
        return values if per_token else values.sum(-1)

    def embed(self, prompts: Sequence[str] | None, tokens: Array, mask: Array) -> NDArray[np.float32]:
        """Average the start model's last hidden layer over response tokens.

        The start model is frozen, so the features of old data stay what they were. REAL (arXiv 2409.17169) embeds
        the response text alone: `prompts=None`.

        Args:
            prompts: B strings, or None for the response tokens without a prompt before them.
            tokens: int64 [B, K, L].
            mask: [B, K, L], 1 on the tokens to average over.

        Returns:
            float32 [B, K, hidden_size].
        """
        responses = Responses.given(tokens, mask)
        if prompts is None:
            batch = Prompts.none(len(responses.tokens))
        else:
            batch = self._codec.encode(prompts, responses.length)
        with self._roles.playing("start") as model:
            embedded = scoring.embed(
                model, batch.to(self.device), responses.to(self.device), self.shortcuts, self.hidden_size
            )
        return embedded.cpu().numpy()

    def head_gradients(
        self, prompts: Sequence[str], tokens: Array, mask: Array, projection: scoring.Projection
    ) -> NDArray[np.float32]:
        """Project gradients of log pi(y | x) by the weights of the policy's output head, see `scoring`.

        Args:
            prompts: B strings.
            tokens: int64 [B, K, L].
            mask: [B, K, L], 1 on response tokens.
            projection: as `head_projection` draws it.

        Returns:
            float32 [B, K, k^2].

        Raises:
            UserError: as `log_prob`, or the head cannot be run apart.
        """
        responses = Responses.given(tokens, mask)
        batch = self._codec.encode(prompts, responses.length)
        with self._roles.playing("policy") as model:
            found = scoring.head_gradients(
                model, batch.to(self.device), responses.to(self.device), self.shortcuts, projection
            )
        return found.cpu().numpy()

    def head_projection(self, k: int, seed: int) -> scoring.Projection:
        """Draw random directions, k by k, for `head_gradients`; `load` and `clone` change nothing about them."""
        return scoring.Projection.draw(self.vocabulary_size, self.hidden_size, k, seed, self.device)

    # The reference, copies and files

    def move_reference(self) -> None:
        """Make the reference a frozen copy of the current policy (SELM's iterations); the start stays."""
        self._roles.move_reference()
        self.reference_version = self.version

    @property
    def sharded(self) -> bool:
        """Whether its weights lie in shares on several processes."""
        return sharding.is_sharded(self.model)

    def shard(self, device: str | torch.device | None = None, *, by: sharding.Sharder | None = None) -> None:
        """Share its weights out over the processes of torch's default group, each of which calls this (FSDP2).

        From then on every process has to do the same with the policy at the same time: sample, score, train, save.
        Make the agent afterwards, with processes="all". Files are written by the first process. A sharded policy
        cannot be cloned, and its reference does not move.

        Args:
            device: where the shares go; where the model is if None.
            by: shares a model out in place, instead of `duelenv.policies.sharding.sharder(device)`.

        Raises:
            UserError: no group, a policy that is sharded already, or a model that cannot be padded: its passes would
                not be as many on every process.
        """
        if self.sharded:
            raise UserError("the policy is sharded already; call shard once")
        if not self.shortcuts.padding:
            raise UserError(
                f"{type(without_adapter(self.model)).__name__} is run without padding, and a sharded model has to run "
                "as often on every process; leave the policy whole"
            )
        self._roles.shard(by or sharding.sharder(self.device if device is None else usable_device(device)))
        # Every pass is one of the whole model, and of all processes together.
        self.shortcuts = replace(self.shortcuts, sharing=False, head=False)

    def clone(self) -> CausalLMPolicy:
        """Copy weights, reference and version into an independent policy; frozen models and sampler are shared."""
        twin = copy.copy(self)
        twin._roles = self._roles.clone()
        twin.history = object()
        return twin

    def state_dict(self) -> dict[str, Any]:
        """Copy weights, reference and version to CPU tensors; the start model goes in as a fingerprint only."""
        versions = {"version": self.version, "reference_version": self.reference_version}
        return {**versions, "start": self._roles.fingerprint(), **self._roles.weights()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave, into a policy built on the same start model.

        Raises:
            UserError: the state belongs to another start model.
        """
        start = self._roles.fingerprint()
        if state["start"] != start:
            raise UserError(
                f"the state was saved by a policy with the start model {state['start'][:12]} and this policy starts "
                f"from {start[:12]}; build the policy from the same model first"
            )
        self._roles.load_weights({"model": state["model"], "reference": state["reference"]})
        self.version, self.reference_version = int(state["version"]), int(state["reference_version"])
        self.history = object()

    def export(self, path: str | Path, *, facts: Mapping[str, Any] | None = None, merge: bool = False) -> None:
        """Write the policy's model for others: plain `AutoModelForCausalLM.from_pretrained(path)` loads the folder.

        It holds the weights (safetensors), the tokenizer, a generation config and a model card. Under PEFT it is the
        adapter, which names its base model, or merged the whole model.

        Args:
            path: the folder; made if absent.
            facts: what the card says besides the base model and the number of updates, by names that people read.
            merge: under PEFT, write the base model with the adapter merged into it.

        Raises:
            UserError: there is no adapter to merge.
        """
        folder = Path(path)
        export.write_model(self.model, self._codec, folder, max_new_tokens=self.max_new_tokens, merge=merge)
        if not sharding.is_writer(self.model):
            return sharding.finished(self.model)
        base = getattr(without_adapter(self.model).config, "_name_or_path", None) or None
        known = {"base model": base, "updates of the weights": self.version, "sampled at temperature": self.temperature}
        export.write_card(folder, {**known, **(facts or {})}, chat=self.chat_template)
        sharding.finished(self.model)

    def save(self, path: str | Path, *, facts: Mapping[str, Any] | None = None) -> None:
        """Write what `export` writes, and beside it what `load` needs to go on: start, moved reference and settings.

        Args:
            path: the folder; made if absent.
            facts: as of `export`.
        """
        folder = Path(path)
        self.export(folder, facts=facts)
        self._roles.save(folder)
        record = Record(
            version=self.version,
            reference_version=self.reference_version,
            reference_moved=self._roles.moved,
            adapter=self._roles.adapter,
            settings={name: getattr(self, name) for name in SETTINGS},
        )
        if sharding.is_writer(self.model):
            record.write(folder)
        sharding.finished(self.model)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        base_model: PreTrainedModel | None = None,
        device: str | torch.device | None = None,
    ) -> CausalLMPolicy:
        """Read what `save` wrote.

        Args:
            path: the folder.
            base_model: for a PEFT policy, the model below the adapter; by default loaded by its recorded name.
            device: where the models go.

        Raises:
            UserError: no policy in `path`, or one of a newer format.
        """
        folder = Path(path)
        record = Record.read(folder)
        places = record.places(folder)
        policy = cls(
            read_model(places.roles, places.policy, record.adapter, base_model),
            AutoTokenizer.from_pretrained(places.tokenizer, trust_remote_code=False),
            device=device,
            **record.settings,
        )
        policy._roles.load(places.roles, places.policy, moved=record.reference_moved)
        policy.version, policy.reference_version = record.version, record.reference_version
        return policy


def _mixture(source: str, beta: float) -> list[tuple[Role, float]]:
    """Write a source as token logits sum_m coefficient_m * logits_m; a term of weight 0 is not run."""
    checks.one_of("source", source, get_args(Source))
    terms: dict[str, list[tuple[Role, float]]] = {
        "policy": [("policy", 1.0)],
        "reference": [("reference", 1.0)],
        "start": [("start", 1.0)],
        "pilaf_plus": [("policy", 1.0 + beta), ("reference", -beta)],
        "pilaf_minus": [("policy", 1.0 - beta), ("reference", beta)],
    }
    return [(role, coefficient) for role, coefficient in terms[source] if coefficient != 0]
