"""Loads a causal language model and its tokenizer, whole or not at all; code that comes with a model is never run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from duelenv.ground.checkpoints import check_complete, quiet_transformers
from duelenv.ground.checks import choices, integer
from duelenv.ground.errors import UserError

_ADAPTER: Final = "adapter_config.json"


def load_model(path: str | Path, *, dtype: str | torch.dtype = "auto") -> Any:
    """A model as its checkpoint has it; a folder with an adapter gives its base model with the adapter, trainable.

    Raises:
        OSError: Nothing loadable.
        UserError: Weights that the checkpoint does not have, or a checkpoint of another kind of model.
    """
    _check_dtype(dtype)
    if (Path(path) / _ADAPTER).is_file():
        return _with_adapter(Path(path), dtype)
    with quiet_transformers():
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, trust_remote_code=False, output_loading_info=True, ignore_mismatched_sizes=True
        )
    model, info = loaded
    check_complete(
        str(path),
        model,
        info,
        expected="a causal language model",
        endings=("CausalLM", "LMHeadModel", "Generation"),
    )
    return model


def load_tokenizer(path: str | Path) -> Any:
    """The tokenizer beside a model; of a folder with an adapter and none, that of its base model."""
    folder = Path(path)
    if (folder / _ADAPTER).is_file() and not (folder / "tokenizer_config.json").is_file():
        path = _base_of(folder)
    return AutoTokenizer.from_pretrained(path, trust_remote_code=False)


def add_lora(model: Any, settings: Mapping[str, Any]) -> Any:
    """Put a new LoRA adapter around a model.

    Args:
        model: A transformers model.
        settings: Of `peft.LoraConfig`; the task and the layers that peft knows for the family are set already. Besides,
            `seed` (0 by default): what the adapter begins with is drawn from it, so that a run can be repeated.

    Raises:
        UserError: peft is not installed, a setting that it refuses, or a model that has an adapter.
    """
    try:
        import peft
    except ImportError as error:
        raise UserError("lora needs peft: pip install 'duelenv[peft]'") from error
    if hasattr(model, "peft_config"):
        raise UserError("lora is given for a model that has an adapter already; leave lora out to train that one")
    known = ["seed", *peft.LoraConfig.__dataclass_fields__]
    given = {"task_type": "CAUSAL_LM", **settings}
    seed = integer("lora.seed", given.pop("seed", 0), low=0)
    for name in settings:
        if name not in known:
            raise UserError(f"Unknown setting {name!r} of lora: {choices(name, known)}")
    try:
        with quiet_transformers(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return peft.get_peft_model(model, peft.LoraConfig(**given))
    except (TypeError, ValueError) as error:
        raise UserError(f"lora is {dict(settings)!r}, which peft refuses ({_first_line(error)}); correct it") from error


def check_adapter(model: Any) -> None:
    """Refuse adapters that put tokens before a prompt: a cached step would count them once more.

    Raises:
        UserError: Names the adapter and its kind.
    """
    if not hasattr(model, "peft_config"):
        return
    if not hasattr(model, "disable_adapter"):
        raise UserError(
            f"{type(model).__name__} carries an adapter that transformers loaded, and the reference needs one that can "
            "be switched off; wrap the base model by peft.PeftModel.from_pretrained(base, folder, is_trainable=True)"
        )
    for name, config in model.peft_config.items():
        if config.is_prompt_learning:
            raise UserError(
                f"the adapter {name!r} is of the kind {config.peft_type.value}, which puts tokens of its own before "
                "each prompt; expected one that changes weights, such as LoRA"
            )


def _with_adapter(folder: Path, dtype: str | torch.dtype) -> Any:
    try:
        from peft import PeftModel
    except ImportError as error:
        raise UserError(f"{str(folder)!r} holds an adapter, which needs peft: pip install 'duelenv[peft]'") from error
    base = _base_of(folder)
    try:
        model = load_model(base, dtype=dtype)
    except OSError as error:
        raise UserError(
            f"the base model {base!r} of the adapter in {str(folder)!r} could not be loaded ({_first_line(error)}); "
            f"put it there, or correct base_model_name_or_path in {_ADAPTER}"
        ) from error
    with quiet_transformers():
        adapted = PeftModel.from_pretrained(model, str(folder), is_trainable=True)
    check_adapter(adapted)
    return adapted


def _base_of(folder: Path) -> str:
    name = json.loads((folder / _ADAPTER).read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not name:
        raise UserError(f"the adapter in {str(folder)!r} does not name its base model; write it into {_ADAPTER}")
    return str(name)


def _check_dtype(dtype: str | torch.dtype) -> None:
    if isinstance(dtype, str) and dtype != "auto" and not isinstance(getattr(torch, dtype, None), torch.dtype):
        raise UserError(f"dtype is {dtype!r}, expected 'auto', or one of torch such as 'float32' or 'bfloat16'")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]
