"""Loads a causal language model and its tokenizer, whole or not at all; code that comes with a model is never run."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from duelenv.ground.checkpoints import check_complete, quiet_transformers, refuse_kernels, refused_as
from duelenv.ground.checks import choices, integer, mapping
from duelenv.ground.errors import UserError

_ADAPTER: Final = "adapter_config.json"


def load_model(path: str | Path, *, dtype: str | torch.dtype = "auto") -> Any:
    """Load a model as its checkpoint has it; an adapter's folder gives its base model with the adapter, trainable.

    Raises:
        Exception: Nothing loadable; transformers raises what it likes.
        UserError: Weights that the checkpoint does not have, a checkpoint of another kind of model, or one that asks
            for code of a repository.
    """
    _check_dtype(dtype)
    if (Path(path) / _ADAPTER).is_file():
        return _with_adapter(Path(path), dtype)
    with quiet_transformers():
        refuse_kernels(path)
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
    """Load the tokenizer beside a model; of a folder with an adapter and none, that of its base model."""
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
    settings = mapping("lora", settings)
    known = ["seed", *peft.LoraConfig.__dataclass_fields__]
    given = {"task_type": "CAUSAL_LM", **settings}
    seed = integer("lora.seed", given.pop("seed", 0), low=0)
    for name in settings:
        if name not in known:
            raise UserError(f"Unknown setting {name!r} of lora: {choices(name, known)}")
    with (
        refused_as(lambda reason: f"lora is {settings!r}, which peft refuses ({reason}); correct it"),
        quiet_transformers(),
        torch.random.fork_rng(devices=[]),
    ):
        torch.manual_seed(seed)
        return peft.get_peft_model(model, peft.LoraConfig(**given))


def check_adapter(model: Any) -> None:
    """Refuse adapters that cannot play their roles.

    Tokens before a prompt would be counted once more by a cached step. What trains beside one adapter would move the
    start, which is the model with that one switched off, or as it was.

    Raises:
        UserError: Names the adapter, or the weights.
    """
    if not hasattr(model, "peft_config"):
        return
    if not hasattr(model, "disable_adapter"):
        raise UserError(
            f"{type(model).__name__} carries an adapter that transformers loaded, and the reference needs one that can "
            "be switched off; wrap the base model by peft.PeftModel.from_pretrained(base, folder, is_trainable=True)"
        )
    modules = _module_names(model)
    for name, config in model.peft_config.items():
        if name in modules:
            raise UserError(
                f"the adapter {name!r} has the name of a module of the model, by which PEFT would confuse their "
                "weights in files; name it otherwise"
            )
        if config.is_prompt_learning:
            raise UserError(
                f"the adapter {name!r} is of the kind {config.peft_type.value}, which puts tokens of its own before "
                "each prompt; expected one that changes weights, such as LoRA"
            )
        if getattr(config, "bias", "none") != "none":
            raise UserError(
                f"the adapter {name!r} has bias={config.bias!r}, which trains biases of the base model, and the start "
                "is that model as it was; set bias='none'"
            )
        if str(getattr(config, "init_lora_weights", "")).startswith("pissa_niter"):
            raise UserError(
                f"the adapter {name!r} has init_lora_weights={config.init_lora_weights!r}, which changes the base "
                "model at random, so that no saved adapter would fit it again; set init_lora_weights='pissa'"
            )
    if len(model.active_adapters) != 1:
        raise UserError(
            f"the adapters {', '.join(model.active_adapters) or 'none'} are active at once, expected one; choose it by "
            "model.set_adapter, or make one of them by model.add_weighted_adapter"
        )
    prefix = getattr(model.base_model, "prefix", None) or "."
    own = [name for name, weights in model.named_parameters() if weights.requires_grad]
    other = [name for name in own if prefix not in name and model.active_adapters[0] not in name.split(".")]
    if other:
        raise UserError(
            f"{other[0]} of the base model is trained beside the adapter, and the start is that model as it was; "
            "freeze it, or name its module in modules_to_save of the adapter"
        )


def _module_names(model: Any) -> set[str]:
    """Name the parts of a model, without the adapters that PEFT keeps in dictionaries beside them."""
    dictionaries = (torch.nn.ModuleDict, torch.nn.ParameterDict)
    parts = [module for module in model.modules() if not isinstance(module, dictionaries)]
    return {name for part in parts for name, _ in part.named_children()}


def _with_adapter(folder: Path, dtype: str | torch.dtype) -> Any:
    try:
        from peft import PeftModel
    except ImportError as error:
        raise UserError(f"{str(folder)!r} holds an adapter, which needs peft: pip install 'duelenv[peft]'") from error
    base = _base_of(folder)
    if (Path(base) / _ADAPTER).is_file():
        raise UserError(
            f"the base model {base!r} of the adapter in {str(folder)!r} is itself a folder with an adapter, expected a "
            f"whole model; merge that one first, and write the merged folder into {_ADAPTER}"
        )
    with refused_as(
        lambda reason: (
            f"the base model {base!r} of the adapter in {str(folder)!r} could not be loaded ({reason}); "
            f"put it there, or correct base_model_name_or_path in {_ADAPTER}"
        )
    ):
        model = load_model(base, dtype=dtype)
    with (
        refused_as(lambda reason: f"the adapter in {str(folder)!r} could not be loaded on {base!r} ({reason})"),
        quiet_transformers(),
        warnings.catch_warnings(),
    ):
        # PEFT leaves what is missing as a new adapter begins, and goes on.
        warnings.filterwarnings("error", message=".*Found missing adapter keys")
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
