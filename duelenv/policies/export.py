"""A policy's model as a folder that other programs load: weights, tokenizer, generation config and a model card.

`AutoModelForCausalLM.from_pretrained(DIR)` and `AutoTokenizer.from_pretrained(DIR)` of plain transformers read it, and
with them whatever builds on these. What a policy needs beyond that to go on learning is not in it.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import GenerationConfig

from duelenv.ground.checkpoints import quiet_transformers, refused_as
from duelenv.ground.errors import UserError
from duelenv.policies import sharding
from duelenv.policies.codec import Codec
from duelenv.policies.passes import base_model as without_adapter

CARD: Final = "README.md"
_ADAPTER: Final = "adapter_config.json"
_WEIGHTS: Final = "adapter_model.safetensors"
_MAGNITUDE: Final = "lora_magnitude_vector"


def write_model(model: Any, codec: Codec, folder: Path, *, max_new_tokens: int, merge: bool = False) -> None:
    """Write a model (safetensors), its tokenizer and its generation config.

    Args:
        model: A transformers model, or a PEFT model: of that the active adapter alone, which names its base model.
        codec: Knows the tokenizer, and which tokens end a response.
        folder: Made if absent.
        max_new_tokens: The longest response, for a generation config that says nothing of it.
        merge: Write the base model with the adapter merged into it, a whole model.

    Raises:
        UserError: There is no adapter to merge, or of a kind that cannot be.
    """
    state = sharding.whole_state(model)
    if merge and state is not None:
        raise UserError("a sharded model cannot be merged; export the adapter, and merge it by merge_adapter")
    if not sharding.is_writer(model):
        return
    folder.mkdir(parents=True, exist_ok=True)
    adapted = hasattr(model, "peft_config")
    if merge and not adapted:
        raise UserError("there is no adapter to merge, the model is whole already; leave merge out")
    if adapted and merge:
        # On a copy: unloading the adapters takes them out of the model.
        with refused_as(lambda reason: f"the adapter cannot be merged into its base model ({reason}); leave merge out"):
            model = _merged(copy.deepcopy(model), [_adapter_of(model)])
        adapted = False
    generation = _generation_config(without_adapter(model), codec, max_new_tokens)
    if adapted:
        _write_adapter(model, folder, state)
    else:
        for name in (_ADAPTER, _WEIGHTS):  # of an earlier export; transformers would put it around the whole model
            (folder / name).unlink(missing_ok=True)
        save_whole(model, folder, generation, state)
    generation.save_pretrained(folder)
    codec.tokenizer.save_pretrained(folder)


def save_whole(
    model: Any, folder: Path, generation: GenerationConfig | None = None, state: dict[str, Any] | None = None
) -> None:
    """Write a whole model, with another generation config than its own, which need not be one that may be saved.

    Args:
        model: A transformers model.
        folder: Made if absent.
        generation: What goes into its generation config; None for nothing.
        state: Its weights, where it does not hold them itself.
    """
    own, model.generation_config = getattr(model, "generation_config", None), generation or GenerationConfig()
    try:
        with quiet_transformers():
            model.save_pretrained(folder, state_dict=state)
    finally:
        model.generation_config = own


def merge_adapter(folder: Path, into: Path) -> None:
    """Write the base model of a folder that `write_model` left, with the adapter merged into it.

    Args:
        folder: Holds an adapter that names its base model.
        into: Made if absent.

    Raises:
        UserError: There is no adapter in it, or its base model cannot be loaded.
    """
    if not (folder / _ADAPTER).is_file():
        raise UserError(f"{str(folder)!r} holds a whole model and no adapter to merge; leave out --merge")
    try:
        from peft import AutoPeftModelForCausalLM
    except ImportError as error:
        raise UserError("merging an adapter needs peft: pip install 'duelenv[peft]'") from error
    base = json.loads((folder / _ADAPTER).read_text(encoding="utf-8")).get("base_model_name_or_path")
    with refused_as(
        lambda reason: (
            f"the base model {base!r} of the adapter in {str(folder)!r} cannot be loaded ({reason}); put it there, or "
            f"correct the name in {_ADAPTER}"
        )
    ):
        with quiet_transformers():
            model = AutoPeftModelForCausalLM.from_pretrained(folder, dtype="auto", trust_remote_code=False)
    with refused_as(lambda reason: f"the adapter in {str(folder)!r} cannot be merged ({reason}); leave out --merge"):
        merged = _merged(model, None)
    into.mkdir(parents=True, exist_ok=True)
    generation = GenerationConfig.from_pretrained(folder)
    merged.generation_config = generation
    with quiet_transformers():
        merged.save_pretrained(into)
    for path in folder.iterdir():  # the tokenizer and whatever else is not of the adapter
        if path.is_file() and not path.name.startswith("adapter_") and not (into / path.name).exists():
            shutil.copy2(path, into / path.name)
    _say_merged(into / CARD)


def write_card(folder: Path, facts: Mapping[str, Any], *, chat: bool, title: str = "An aligned language model") -> None:
    """Write the model card of a folder that `write_model` left.

    Args:
        folder: The folder.
        facts: What is to be known of the model, by names that people read; None is left out.
        chat: Whether prompts go through the tokenizer's chat template.
        title: Its first line.
    """
    adapter = (folder / _ADAPTER).is_file()
    metadata: dict[str, Any] = {
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["duelenv", "preference-learning", "dueling-bandits"],
    }
    base = facts.get("base model")
    if isinstance(base, str) and base.count("/") == 1 and not Path(base).exists():  # a name on the hub, not a path
        metadata["base_model"] = base
    rows = "\n".join(f"| {name} | {_cell(value)} |" for name, value in facts.items() if value is not None)
    text = f"""---
{yaml.safe_dump(metadata, sort_keys=False)}---

# {title}

Trained with duelenv {version("duelenv")} by preferences between pairs of its own responses.

| | |
| :-- | :-- |
{rows}

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("path/to/this/folder"){"  # needs peft" if adapter else ""}
tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")
{_ASK_CHAT if chat else _ASK_PLAIN}
answer = model.generate(**inputs, do_sample=True, top_k=0)
print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
```
"""
    (folder / CARD).write_text(text, encoding="utf-8", errors="backslashreplace")


def _say_merged(card: Path) -> None:
    """Take out of a card what it says of an adapter."""
    if card.is_file():
        text = card.read_text(encoding="utf-8").replace("library_name: peft", "library_name: transformers", 1)
        card.write_text(text.replace("  # needs peft", "", 1), encoding="utf-8")


_ASK_PLAIN: Final = 'inputs = tokenizer("your prompt", return_tensors="pt")'
_ASK_CHAT: Final = """messages = [{"role": "user", "content": "your prompt"}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)"""


def _cell(value: Any) -> str:
    """Write a value in one cell of a table."""
    return " ".join(str(value).split()).replace("|", "\\|")


def _merged(model: Any, adapters: list[str] | None) -> Any:
    """Merge the adapters into a PEFT model's base and return that; the model is used up."""
    base = model.get_base_model()
    head = base.get_output_embeddings()
    ends = [head, base.get_input_embeddings()]
    if base.config.get_text_config().tie_word_embeddings and any(hasattr(end, "base_layer") for end in ends):
        # What is added to one end of a tied model would be added to the other.
        layer = getattr(head, "base_layer", head)
        layer.weight = torch.nn.Parameter(layer.weight.detach().clone(), requires_grad=False)
        base.config.get_text_config().tie_word_embeddings = base.config.tie_word_embeddings = False
        base.all_tied_weights_keys = {}
    return model.merge_and_unload(safe_merge=True, adapter_names=adapters)


def _adapter_of(model: Any) -> str:
    return str(model.active_adapter)


def _write_adapter(model: Any, folder: Path, state: dict[str, Any] | None) -> None:
    """Write the active adapter into the folder itself, whatever its name, with a base model that others find."""
    name = _adapter_of(model)
    model.save_pretrained(folder, selected_adapters=[name], state_dict=state)
    if name != "default":  # PEFT puts these one folder deeper, where transformers does not look
        for path in (folder / name).iterdir():
            path.replace(folder / path.name)
        (folder / name).rmdir()
    # Transformers looks for the magnitudes of DoRA under a longer name than PEFT writes; PEFT reads both.
    weights = load_file(folder / _WEIGHTS)
    named = {f"{key}.weight" if key.endswith(_MAGNITUDE) else key: tensor for key, tensor in weights.items()}
    if named.keys() != weights.keys():
        save_file(named, folder / _WEIGHTS, metadata={"format": "pt"})
    config = json.loads((folder / _ADAPTER).read_text(encoding="utf-8"))
    base = config.get("base_model_name_or_path")
    if base and Path(base).is_dir():  # a path from where this process stands means nothing elsewhere
        config["base_model_name_or_path"] = str(Path(base).resolve())
        (folder / _ADAPTER).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _generation_config(model: Any, codec: Codec, max_new_tokens: int) -> GenerationConfig:
    """Return the model's own, ending where the policy's responses end."""
    own = getattr(model, "generation_config", None)
    config = GenerationConfig() if own is None else copy.deepcopy(own)
    if codec.end_ids:
        config.eos_token_id = codec.end_ids[0] if len(codec.end_ids) == 1 else list(codec.end_ids)
    if config.max_new_tokens is None and config.max_length in (None, 20):  # 20 is what transformers means by nothing
        config.max_new_tokens = max_new_tokens
    if config.pad_token_id is None or config.pad_token_id < 0:
        config.pad_token_id = codec.pad_id
    if not _valid(config):
        # Most often a temperature that came without do_sample, which models are published with and nobody may save.
        config.do_sample = True
    if not _valid(config):
        kept = {name: getattr(config, name) for name in ("eos_token_id", "pad_token_id", "max_new_tokens")}
        config = GenerationConfig(**kept)
    return config


def _valid(config: GenerationConfig) -> bool:
    """Tell whether transformers would save it."""
    try:
        config.validate(strict=True)
    except ValueError:
        return False
    return True
