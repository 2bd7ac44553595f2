"""Where prompts come from, by the name in `prompts: {NAME: {...}}`: the toy policy's, a file, or the config itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from duelenv.ground.checks import integer
from duelenv.ground.errors import UserError
from duelenv.ground.registry import Registry

__all__ = ["PROMPT_SOURCES", "Splits", "prompts_from", "register_prompts"]

Splits = Mapping[str, Sequence[str]]
"""Prompts to learn on and held-out ones: `{"train": [...], "test": [...]}`, at least one of each."""

_HERE: Final = "duelenv.experiments.config.prompt_sources"

PROMPT_SOURCES: Registry[Callable[..., Splits]] = Registry(
    "source of prompts",
    {
        "list": f"{_HERE}:listed_prompts",
        "path": "duelenv.experiments.config.prompts:read_prompts",
        "toy": f"{_HERE}:prompts_of_toy",
    },
)
"""One of your own is a function of its settings that returns `Splits`."""

register_prompts = PROMPT_SOURCES.register


def prompts_from(source: str, settings: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the prompts of a source.

    Args:
        source: Its name.
        settings: Its own.

    Raises:
        UserError: An unknown source or setting, a value that it refuses, or something else than prompts came.
    """
    made = PROMPT_SOURCES.make(source, settings)
    if not isinstance(made, Mapping) or set(made) != {"train", "test"} or not all(map(_are_texts, made.values())):
        raise UserError(
            f"source of prompts {source!r} returned {str(made)[:60]}, expected {{'train': [...], 'test': [...]}} "
            "with at least one text in each; correct what it returns"
        )
    return {split: list(texts) for split, texts in made.items()}


def _are_texts(texts: object) -> bool:
    if not isinstance(texts, Sequence) or isinstance(texts, str):
        return False
    return len(texts) > 0 and all(isinstance(text, str) for text in texts)


def prompts_of_toy(train: int = 64, test: int = 24, seed: int = 0) -> Splits:
    """Return prompts that the toy policy knows.

    Args:
        train: How many to learn on.
        test: How many to hold out.
        seed: Which, and in which order.
    """
    from duelenv.policies.toy import toy_prompts

    seed = integer("'prompts.toy.seed'", seed, low=0)
    return {
        "train": toy_prompts(integer("'prompts.toy.train'", train, low=1), "train", seed),
        "test": toy_prompts(integer("'prompts.toy.test'", test, low=1), "test", seed),
    }


def listed_prompts(train: Any = None, test: Any = None) -> Splits:
    """Return prompts that stand in the config: texts, or dialogues as lists of messages.

    Args:
        train: To learn on.
        test: Held out.
    """
    return {"train": _listed("'prompts.list.train'", train), "test": _listed("'prompts.list.test'", test)}


def _listed(name: str, prompts: Any) -> list[str]:
    from duelenv.ground.dialogue import is_messages, prompt_of

    if (
        not isinstance(prompts, list)
        or not prompts
        or not all(isinstance(one, str) or is_messages(one) for one in prompts)
    ):
        raise UserError(f"{name} is {prompts!r}, expected a list of texts, or of dialogues, each a list of messages")
    return [prompt_of(one, name, f"{name} prompt {number}") for number, one in enumerate(prompts)]
