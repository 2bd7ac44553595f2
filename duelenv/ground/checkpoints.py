"""Whether a model is what its checkpoint holds: transformers draws what is missing at random, and goes on."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import parent_process
from pathlib import Path
from typing import Any, Final

from duelenv.ground.errors import UserError

_SHOWN: Final = 3

_log = logging.getLogger(__name__)


def check_complete(path: str, model: Any, info: Mapping[str, Any], *, expected: str, endings: Sequence[str]) -> None:
    """Refuse a model that is not all that its checkpoint holds, or is made of a checkpoint for something else.

    Args:
        path: Where it comes from.
        model: As it was loaded.
        info: What transformers tells with `output_loading_info`.
        expected: What should lie at the path, in words.
        endings: How classes of such models are called.

    Raises:
        UserError: Names the first missing and unexpected keys.
    """
    missing = sorted(info.get("missing_keys", ()))
    wrong = sorted(str(entry[0] if isinstance(entry, tuple) else entry) for entry in info.get("mismatched_keys", ()))
    unexpected = sorted(info.get("unexpected_keys", ()))
    kind = type(model).__name__
    made_for = [name for name in getattr(model.config, "architectures", None) or [] if name != kind]
    if missing or wrong:
        beside = f" and has {_some(unexpected)} besides" if unexpected else ""
        lacks = f"lacks {_some(missing)}" if missing else f"has {_some(wrong)} in another shape"
        raise UserError(
            f"the checkpoint {path!r} {lacks}{beside}, so that {kind} would begin with random weights there; give a "
            f"checkpoint of {expected}, its keys without a prefix such as '_orig_mod.'"
        )
    if unexpected and made_for and not any(name.endswith(tuple(endings)) for name in made_for):
        raise UserError(
            f"the checkpoint {path!r} is of {made_for[0]} and has {_some(unexpected)}, which {kind} does not read; "
            f"give a checkpoint of {expected}"
        )
    if unexpected:
        _log.warning("%s does not read %s of %r", kind, _some(unexpected), path)


@contextmanager
def refused_as(sentence: Callable[[str], str]) -> Iterator[None]:
    """Turn what others' code raises for a file or a setting that it cannot use into a refusal.

    Broken weights, a library that is not installed and an unknown word in a configuration raise exceptions of every
    kind. What refuses in a sentence already, and a machine without room, pass as they are.

    Args:
        sentence: Makes the refusal, of the reason that was given.

    Raises:
        UserError: The sentence.
    """
    import torch

    try:
        yield
    except (UserError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise UserError(sentence(_reason(error))) from error


def refuse_kernels(path: str | Path) -> None:
    """Refuse a model whose configuration asks for kernels of a repository, which transformers would fetch and run.

    Args:
        path: A folder, or a name that transformers knows.

    Raises:
        Exception: No configuration that can be read; transformers raises what it likes.
        UserError: It asks for them.
    """
    from transformers import AutoConfig

    whole: Any = AutoConfig.from_pretrained(path, trust_remote_code=False)
    parts = [whole, *(getattr(whole, name, None) for name in getattr(whole, "sub_configs", {}))]
    for part in parts:
        for key in ("attn_implementation", "experts_implementation"):
            named = getattr(part, f"_{key}", None)
            if isinstance(named, str) and "/" in named:
                raise UserError(
                    f"the configuration of {str(path)!r} asks for the code of {named!r} as its {key}, and code that "
                    "comes with a model is never run; take that out of its config.json"
                )


#: What libraries advise where a checkpoint needs code of its own, and what is said instead.
_ADVICE: Final = {
    "weights_only": "its weights are pickled together with code, which is never run; save them as safetensors",
    "contains custom code": "it comes with code of its own, which is never run; use a model that transformers knows",
}


def _reason(error: Exception) -> str:
    """Put what an error says on one line."""
    for words, said in _ADVICE.items():
        if words in str(error):
            return said
    first, *rest = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no reason given"]
    said = (f"{first} {rest[0]}" if rest and first.endswith(":") else first)[:200].rstrip(".:")
    return said if isinstance(error, OSError | ValueError | ImportError) else f"{type(error).__name__}: {said}"


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers from talking while it reads or writes a model.

    Of its table of keys `check_complete` says what matters, in a sentence. Bars are drawn only where one process loads
    before somebody's eyes, not over the progress of many.
    """
    from transformers.utils import logging as words

    before, bars = words.get_verbosity(), words.is_progress_bar_enabled()
    words.set_verbosity_error()
    if parent_process() is not None or not sys.stderr.isatty():
        words.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # peft 0.21 asks models for an attribute that transformers renames.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            yield
    finally:
        words.set_verbosity(before)
        if bars:
            words.enable_progress_bar()


def _some(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more
