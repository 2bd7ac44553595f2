"""Whether a model is what its checkpoint holds: transformers draws what is missing at random, and goes on."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
def quiet_loading() -> Iterator[None]:
    """Keep transformers from printing its table of keys: `check_complete` says what matters of it, in a sentence."""
    from transformers.utils import logging as words

    before = words.get_verbosity()
    words.set_verbosity_error()
    try:
        yield
    finally:
        words.set_verbosity(before)


def _some(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more
