"""The check of oracles that answer at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from duelenv.ground.errors import UserError
from duelenv.oracles.base import Oracle, UtilityOracle, ask
from duelenv.oracles.links import link
from duelenv.testing.failure import CheckFailed, require

_PROMPTS = ("Say hello.", "Why is the sky blue?", "Name a colour.")
_RESPONSES = (
    "Hello there!",
    "Because light is scattered.",
    "Blue.",
    "",
    " two  spaces ",
    "line\nbreak\u2028and more",
    "日本語 and é",
    "word " * 60,
)
_CLOSE = 1e-6


def check_oracle(
    make: Callable[[], Oracle],
    *,
    prompts: Sequence[str] = _PROMPTS,
    responses: Sequence[str] = _RESPONSES,
    symmetric: bool = True,
) -> None:
    """Check an oracle.

    Probabilities within bounds, the same whatever else is in the batch and however it is ordered, a text against itself
    an even match, and both orders of a pair adding up to 1; where it has a utility, preferences follow from it and no
    utility is above the stated maximum.

    Args:
        make: Makes the oracle.
        prompts: What it is asked about; give those that it knows, where it knows only some.
        responses: Likewise.
        symmetric: Whether the order of a pair says nothing; false for one with a position bias.

    Raises:
        CheckFailed: It breaks its contract.
    """
    oracle = make()
    triples = [(p, a, b) for p in prompts for a in responses for b in responses]
    columns: tuple[list[str], ...] = tuple(map(list, zip(*triples, strict=True)))
    answer = _asked(oracle, columns)
    require(
        [list(column) for column in columns] == [list(column) for column in zip(*triples, strict=True)],
        "the oracle changed the texts that it was given",
    )
    again = _asked(oracle, columns)
    require(
        np.array_equal(answer.win, again.win, equal_nan=True),
        "the oracle answered the same questions differently a second time: draw labels elsewhere, an oracle gives "
        "probabilities",
    )
    other = _asked(make(), columns)
    require(
        np.array_equal(answer.win, other.win, equal_nan=True), "two oracles made alike answer the same questions apart"
    )
    order = np.random.default_rng(0).permutation(len(triples))
    shuffled = _asked(oracle, tuple([column[place] for place in order] for column in columns))
    for number, place in enumerate(order):
        require(
            np.isclose(shuffled.win[number], answer.win[place], atol=_CLOSE, equal_nan=True),
            f"P(first preferred) of {triples[place]!r} is {answer.win[place]:g} in one order of the batch and "
            f"{shuffled.win[number]:g} in another, expected the same",
        )
    for place in (0, len(triples) // 2):
        alone = _asked(oracle, tuple([column[place]] for column in columns))
        require(
            np.isclose(alone.win[0], answer.win[place], atol=_CLOSE, equal_nan=True),
            f"P(first preferred) of {triples[place]!r} is {alone.win[0]:g} alone and {answer.win[place]:g} in a batch",
        )
    if symmetric:
        places = {triple: place for place, triple in enumerate(triples)}
        for place, (prompt, first, second) in enumerate(triples):
            back = places[prompt, second, first]
            total = answer.win[place] + answer.win[back] + answer.tie[place]
            require(
                np.isnan(total) or abs(total - 1.0) < _CLOSE,
                f"P(first preferred) of {(prompt, first, second)!r} in both orders and the tie add up to {total:g}, "
                "expected 1; an oracle with a position bias is checked with symmetric=False",
            )
    if isinstance(oracle, UtilityOracle):
        _check_utility(oracle, prompts, responses, answer.win.reshape(len(prompts), len(responses), len(responses)))


def _asked(oracle: Oracle, columns: Sequence[list[str]]) -> Any:
    try:
        return ask(oracle, *columns)
    except UserError as error:
        raise CheckFailed(f"the oracle's answer was refused: {error}") from error


def _check_utility(oracle: UtilityOracle, prompts: Sequence[str], responses: Sequence[str], win: Any) -> None:
    for number, prompt in enumerate(prompts):
        repeated = [prompt] * len(responses)
        values = np.asarray(oracle.utility(repeated, list(responses)), np.float64)
        require(
            values.shape == (len(responses),) and np.isfinite(values).all(),
            f"utility gives {values.tolist()} for {len(responses)} responses, expected one finite number each",
        )
        expected = link(oracle.link)(values[:, np.newaxis] - values[np.newaxis, :])
        require(
            np.allclose(win[number], expected, atol=_CLOSE),
            f"preferences about {prompt!r} do not follow from the utility by the link {oracle.link!r}; disturb an "
            "oracle by a wrapper, not in __call__",
        )
        largest = oracle.maximum([prompt])
        if largest is not None:
            require(
                float(np.asarray(largest)[0]) >= values.max() - _CLOSE,
                f"maximum of {prompt!r} is {float(np.asarray(largest)[0]):g}, and a response has the utility "
                f"{values.max():g}",
            )
