"""A toy policy that speaks grammatical English of 96 words and fits in a unit test; not a model of anything else.

`toy_policy` is a GPT-NeoX of 2 layers and 64 hidden units, fine-tuned for some seconds on sentences of a small seeded
grammar and kept in a cache folder. It answers prompts such as "tell me about the garden" with 4 to 12 words. Kind and
unkind words are about equally frequent, so that a preference has something to move, and a reason ("because it is
warm") is rare (1 to 2 % of responses), so that exploring for it is hard. `tiny_model` gives random weights.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
import tempfile
import warnings
from dataclasses import asdict, dataclass
from functools import cache as remembered
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from duelenv.ground.errors import UserError
from duelenv.policies.causal_lm import CausalLMPolicy

# The words. 96 in all with the three special tokens; the grammar below uses every one of them.
SPECIAL = ("<pad>", "<eos>", "<unk>")
GOOD = ("kind", "honest", "clear", "helpful", "gentle", "wise", "patient", "fair")
BAD = ("rude", "vague", "lazy", "harsh", "cruel", "dull")
RARE = "because"
PLAIN = tuple("old new small big quiet warm busy green tall dark young bright".split())
NOUNS = tuple(
    "garden river house teacher doctor village market bridge forest kitchen school boat horse letter song meal road "
    "shop farmer baker sailor poet child dog king story".split()
)
VERBS = ("waits", "stands", "moves", "rests", "works", "sings", "grows", "sleeps")
LINKS = ("is", "was", "seems", "looks")
DEGREES = ("very", "rather", "quite", "so")
PLACES = ("near", "behind", "beside", "with", "under", "by")
TIMES = ("today", "again", "now")
OPENERS = ("i think", "they say", "we know")
FUNCTION = ("the", "and", "it", "tell", "me", "about", "what", "describe", "how")
WORDS = tuple(
    dict.fromkeys(
        " ".join(
            [
                *SPECIAL,
                *GOOD,
                *BAD,
                RARE,
                *PLAIN,
                *NOUNS,
                *VERBS,
                *LINKS,
                *DEGREES,
                *PLACES,
                *TIMES,
                *OPENERS,
                *FUNCTION,
            ]
        ).split()
    )
)

_MIN_WORDS, _MAX_WORDS = 4, 12
_MAX_NEW_TOKENS = 16
Architecture = Literal["gpt_neox", "llama", "gpt2"]


@dataclass(frozen=True)
class ToySettings:
    """What a toy policy is built from; a change of any of it is another entry in the cache."""

    seed: int = 0
    """Of the grammar's sentences and of the initial weights."""
    steps: int = 300
    """Optimizer steps."""
    batch: int = 48
    """Sentences in a step."""
    learning_rate: float = 6e-3
    """Peak of a cosine schedule with a short warm-up."""
    rare_share: float = 0.015
    """Share of the grammar's responses that give a reason."""


def toy_tokenizer() -> PreTrainedTokenizerFast:
    """Make one token for each of the 96 words; decoding joins them with spaces."""
    inner = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


# The grammar


@remembered
def _all_prompts() -> tuple[str, ...]:
    """List every prompt of the templates, in a fixed mixed order."""
    prompts = []
    for noun in NOUNS:
        prompts += [f"tell me about the {noun}", f"describe the {noun}", f"how {LINKS[0]} the {noun}"]
        prompts += [f"what {link} the {noun} {time}" for link, time in product(LINKS[:2], TIMES)]
    for template, noun, place, other in product(("tell me about the", "describe the"), NOUNS, PLACES[:3], NOUNS):
        if noun != other:
            prompts.append(f"{template} {noun} {place} the {other}")
    order = np.random.default_rng(0).permutation(len(prompts))
    return tuple(prompts[index] for index in order)


def toy_prompts(count: int = 64, split: Literal["train", "test"] = "train", seed: int = 0) -> list[str]:
    """Make distinct prompts for the toy policy; the two splits share none.

    Args:
        count: how many.
        split: "train" or "test", a fixed fifth of all prompts.
        seed: which of the split's prompts, and in which order.

    Raises:
        UserError: an unknown split, or more prompts than it has.
    """
    every = _all_prompts()
    cut = len(every) * 4 // 5
    pools = {"train": every[:cut], "test": every[cut:]}
    if split not in pools:
        raise UserError(f"split is {split!r}; expected 'train' or 'test'")
    pool = pools[split]
    if not 1 <= count <= len(pool):
        raise UserError(f"count is {count}; the {split} split has 1 to {len(pool)} toy prompts to give")
    chosen = np.random.default_rng([seed, len(split)]).permutation(len(pool))[:count]
    return [pool[index] for index in chosen]


def _pattern() -> re.Pattern[str]:
    """Write the grammar of responses as one regular expression."""

    def one_of(words: tuple[str, ...]) -> str:
        return f"(?:{'|'.join(words)})"

    quality = one_of(GOOD + BAD + PLAIN)
    noun = one_of(NOUNS)
    subject = f"the (?:{quality} )?{noun}"
    predicate = f"{one_of(LINKS)} (?:{one_of(DEGREES)} )?{quality}(?: and {quality})?"
    action = f"{one_of(VERBS)}(?: {one_of(PLACES)} {subject})?"
    reason = f"{RARE} it {one_of(LINKS)} {quality}"
    return re.compile(f"(?:{one_of(OPENERS)} )?{subject} (?:{predicate}|{action})(?: {one_of(TIMES)})?(?: {reason})?")


_RESPONSE = _pattern()


def is_grammatical(text: str) -> bool:
    """Tell whether the text is a response of the toy grammar, of any length."""
    return _RESPONSE.fullmatch(text) is not None


def toy_responses(prompt: str, count: int, generator: np.random.Generator, rare_share: float = 0.015) -> list[str]:
    """Make distinct responses of the toy grammar to one of its prompts, without a model.

    Args:
        prompt: one of `toy_prompts`.
        count: how many.
        generator: draws them.
        rare_share: share of responses that give a reason.
    """
    topic = next(word for word in prompt.split() if word in NOUNS)
    said: dict[str, None] = {}
    while len(said) < count:
        said.setdefault(_sentence(topic, rare_share, generator))
    return list(said)


def _sentence(topic: str, rare_share: float, generator: np.random.Generator) -> str:
    """Write one response about a topic, 4 to 12 words."""

    def pick(words: tuple[str, ...]) -> str:
        return words[int(generator.integers(len(words)))]

    def chance(share: float) -> bool:
        return bool(generator.random() < share)

    def quality() -> str:
        return pick((GOOD, BAD, PLAIN)[int(generator.choice(3, p=(0.4, 0.4, 0.2)))])

    reason = [RARE, "it", pick(LINKS), quality()] if chance(rare_share) else []
    while True:
        words = pick(OPENERS).split() if chance(0.35) else []
        words += ["the", *([quality()] if chance(0.5) else []), topic]
        if chance(0.55):
            words += [pick(LINKS), *([pick(DEGREES)] if chance(0.5) else []), quality()]
            words += ["and", quality()] if chance(0.5) else []
        else:
            words += [pick(VERBS), pick(PLACES), "the", *([quality()] if chance(0.5) else []), pick(NOUNS)]
        words += [pick(TIMES)] if chance(0.4) else []
        words += reason
        if _MIN_WORDS <= len(words) <= _MAX_WORDS:
            return " ".join(words)


# The policy


def toy_policy(
    seed: int = 0,
    cache: str | os.PathLike[str] | None = None,
    *,
    max_new_tokens: int = _MAX_NEW_TOKENS,
    temperature: float = 1.0,
    max_sequences: int | None = None,
    device: str | torch.device | None = None,
) -> CausalLMPolicy:
    """Make the toy policy: built in some seconds the first time, then read from the cache.

    The same seed gives the same weights on one machine, whatever the state of torch's global generator, which is
    left as it was.

    Args:
        seed: of the grammar's sentences and of the initial weights.
        cache: folder; by default $DUELENV_CACHE, else duelenv below $XDG_CACHE_HOME or ~/.cache.
        max_new_tokens: longest response, as in `CausalLMPolicy`; the grammar needs 13.
        temperature: of sampling.
        max_sequences: most responses decoded at once, as in `CausalLMPolicy`.
        device: where the model goes.
    """
    settings = ToySettings(seed=seed)
    path = _cache_folder(cache) / f"toy-policy-{_key(settings)}.safetensors"
    weights = _read(path)
    if weights is None:
        weights = _build(settings)
        _write(path, weights)
    model = _architecture("gpt_neox", hidden=64, layers=2, heads=4, context=64, seed=0)
    model.load_state_dict(weights)
    return CausalLMPolicy(
        model,
        toy_tokenizer(),
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        max_sequences=max_sequences,
        device=device,
    )


def tiny_model(
    architecture: Architecture = "gpt_neox",
    seed: int = 0,
    *,
    hidden: int = 32,
    layers: int = 2,
    heads: int = 4,
    context: int = 64,
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Make a small model with random weights and the toy tokenizer, for tests.

    Raises:
        UserError: an unknown architecture.
    """
    model = _architecture(architecture, hidden=hidden, layers=layers, heads=heads, context=context, seed=seed)
    return model, toy_tokenizer()


def _architecture(
    name: Architecture, *, hidden: int, layers: int, heads: int, context: int, seed: int
) -> PreTrainedModel:
    # A wide initialisation, so that next-token distributions differ from uniform even before training.
    shared: dict[str, Any] = {
        "vocab_size": len(WORDS),
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_position_embeddings": context,
        "initializer_range": 0.1,
        "pad_token_id": WORDS.index("<pad>"),
        "bos_token_id": None,
        "eos_token_id": WORDS.index("<eos>"),
    }
    # Only the CPU's generator is used and restored; torch.manual_seed would reseed every accelerator as well.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if name == "gpt_neox":
            return GPTNeoXForCausalLM(GPTNeoXConfig(**shared, intermediate_size=4 * hidden)).eval()
        if name == "llama":
            return LlamaForCausalLM(LlamaConfig(**shared, intermediate_size=2 * hidden)).eval()
        if name == "gpt2":
            dropouts: dict[str, Any] = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
            return GPT2LMHeadModel(GPT2Config(**shared, **dropouts)).eval()
    raise UserError(f"architecture is {name!r}; expected 'gpt_neox', 'llama' or 'gpt2'")


def _build(settings: ToySettings) -> dict[str, torch.Tensor]:
    """Fine-tune the toy model on the grammar; one thread, so that sums come out the same every time."""
    from tqdm import tqdm

    generator = np.random.default_rng([settings.seed, 96])
    data = _training_data(settings, generator)
    model = _architecture("gpt_neox", hidden=64, layers=2, heads=4, context=64, seed=settings.seed)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=0.01)
    warm_up = max(1, settings.steps // 10)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        progress = tqdm(range(settings.steps), desc="building the toy policy", unit="step", disable=None)
        for step in progress:
            cosine = 0.5 * (1 + np.cos(np.pi * step / settings.steps))
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * min((step + 1) / warm_up, 1.0) * cosine
            rows = slice(step * settings.batch, (step + 1) * settings.batch)
            ids, target = torch.from_numpy(data[0][rows]), torch.from_numpy(data[1][rows])
            logits = model(input_ids=ids[:, :-1], use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=-100)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            progress.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    finally:
        torch.set_num_threads(threads)
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _training_data(
    settings: ToySettings, generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Make token ids and targets [steps * batch, T], right-padded; targets are -100 on prompts and padding."""
    index = {word: number for number, word in enumerate(WORDS)}
    prompts = toy_prompts(len(_all_prompts()) * 4 // 5, "train")
    count = settings.steps * settings.batch
    width = 8 + _MAX_WORDS + 1
    ids = np.full((count, width), index["<pad>"], dtype=np.int64)
    targets = np.full((count, width), -100, dtype=np.int64)
    for row, which in enumerate(generator.integers(len(prompts), size=count)):
        prompt = prompts[which].split()
        topic = next(word for word in prompt if word in NOUNS)
        response = [*_sentence(topic, settings.rare_share, generator).split(), "<eos>"]
        tokens = [index[word] for word in prompt + response]
        ids[row, : len(tokens)] = tokens
        targets[row, len(prompt) : len(tokens)] = tokens[len(prompt) :]
    return ids, targets


# The cache: one safetensors file, written whole or not at all


def _cache_folder(cache: str | os.PathLike[str] | None) -> Path:
    if cache is not None:
        return Path(cache)
    if os.environ.get("DUELENV_CACHE"):
        return Path(os.environ["DUELENV_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "duelenv"


def _key(settings: ToySettings) -> str:
    parts = {
        "settings": asdict(settings),
        "words": WORDS,
        "code": [inspect.getsource(part) for part in (_sentence, _training_data, _architecture, _build)],
        "prompts": _all_prompts(),
        "versions": {name: version(name) for name in ("torch", "transformers", "numpy")},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _digest(weights: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def _read(path: Path) -> dict[str, torch.Tensor] | None:
    """Read the cached weights, or None where there are none or the file is damaged."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}
            expected = (file.metadata() or {}).get("digest")
    except (SafetensorError, OSError):
        return None  # damaged: built again, and replaced
    return weights if _digest(weights) == expected else None


def _write(path: Path, weights: dict[str, torch.Tensor]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            draft = Path(folder) / path.name
            save_file(weights, draft, metadata={"digest": _digest(weights)})
            os.replace(draft, path)
    except (SafetensorError, OSError) as error:
        warnings.warn(f"the toy policy could not be cached in {path.parent}: {error}", stacklevel=3)
