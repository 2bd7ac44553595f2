"""Candidates that were said elsewhere: recorded responses to a world's prompts, beside what its policy draws.

They are off-policy: nobody knows who drew them, or how probable they were. In the policy's tokens they are scored,
embedded and trained on like any others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from duelenv.data.loading import pool_of
from duelenv.ground.errors import UserError
from duelenv.worlds.alignment_duel.candidate_sources import RECORDED

if TYPE_CHECKING:
    from duelenv.policies.causal_lm import CausalLMPolicy

_SHOWN = 60


class RecordedResponses:
    """What was said elsewhere to each of a world's prompts, in a policy's tokens.

    A text that was recorded twice counts once. Texts become tokens here and never again: what is scored and trained on
    are these ids.

    Args:
        given: Responses by prompt, {prompt: [responses]}, as many to each as there are; or a pool, or a table that
            `duelenv.data.load_pool` reads (a path, rows, a mapping of its settings with the path as `path`), whose
            scores nobody looks at.
        policy: Whose tokens they are put in.
        prompts: The prompts that rounds are drawn from, [P].
        count: Different responses to a prompt that a round shows.

    Raises:
        UserError: A prompt with fewer different responses than a round shows, none among them; a response that the
            policy's tokens do not say, or one longer than the policy's own may be; or as `load_pool`.
    """

    def __init__(self, given: Any, policy: CausalLMPolicy, prompts: NDArray[np.object_], count: int) -> None:
        found = _by_prompt(given)
        wanted = list(dict.fromkeys(prompts.tolist()))
        short = [prompt for prompt in wanted if len(found.get(prompt, ())) < count]
        if short:
            there = len(found.get(short[0], ()))
            raise UserError(
                f"recorded has fewer than sources[{RECORDED!r}]={count} different responses to {len(short)} of the "
                f"world's {len(wanted)} prompts, {there} to {short[0][:_SHOWN]!r}; record more, leave those prompts "
                "out, or lower the number"
            )
        self._place = {}
        texts: list[str] = []
        for prompt in wanted:
            self._place[prompt] = len(texts), len(found[prompt])
            texts += found[prompt]
        self._texts = np.array(texts, dtype=object)
        self._tokens, self._mask = policy.tokens_of(self._texts)
        said = policy.decode(self._tokens, self._mask)
        changed = np.flatnonzero(said != self._texts)
        if len(changed):
            raise UserError(
                f"{len(changed)} of {len(texts)} recorded responses are other texts in the policy's tokens, "
                f"{texts[changed[0]][:_SHOWN]!r} is {said[changed[0]][:_SHOWN]!r}; leave them out, or record what this "
                "policy's tokenizer can say"
            )

    def draw(
        self, prompts: NDArray[np.object_], uniforms: NDArray[np.float64]
    ) -> tuple[NDArray[np.object_], NDArray[np.int64], NDArray[np.int8]]:
        """Draw different responses to each of N prompts, all sets of them alike probable.

        Args:
            prompts: [N], of those that it was made for.
            uniforms: In [0, 1), one for each draw, [N, C].

        Returns:
            Texts [N, C], tokens and mask [N, C, L].
        """
        chosen = np.empty(uniforms.shape, np.int64)
        for row, prompt in enumerate(prompts.tolist()):
            first, there = self._place[prompt]
            left = list(range(first, first + there))
            chosen[row] = [left.pop(int(number * len(left))) for number in uniforms[row].tolist()]
        return self._texts[chosen], self._tokens[chosen], self._mask[chosen]


def recorded_responses(
    given: Any, policy: CausalLMPolicy, prompts: NDArray[np.object_], sources: Mapping[str, int]
) -> RecordedResponses | None:
    """Return what the source "recorded" has, None where no candidates come from there.

    Raises:
        UserError: One of the source and the responses without the other; or as `RecordedResponses`.
    """
    count = sources.get(RECORDED)
    if count is None and given is None:
        return None
    if count is None:
        raise UserError(
            f"recorded is read by the source {RECORDED!r} alone, and candidates come from {', '.join(sources)}; add it "
            f"as in sources={{**{dict(sources)}, {RECORDED!r}: 1}}, or leave recorded out"
        )
    if given is None:
        raise UserError(
            f"sources has {RECORDED!r} and nothing is recorded; give recorded={{prompt: [responses]}} or the path of a "
            "table of responses"
        )
    return RecordedResponses(given, policy, prompts, count)


def _by_prompt(given: Any) -> dict[str, list[str]]:
    """Return the different responses to each prompt, in their order."""
    if isinstance(given, Mapping) and not isinstance(given.get("path"), (str, Path)):
        return {prompt: _texts(prompt, responses) for prompt, responses in given.items()}
    pool = pool_of(given)
    found: dict[str, list[str]] = {}
    for prompt, responses in zip(pool.prompts, pool.responses.tolist(), strict=True):
        found.setdefault(prompt, []).extend(responses)
    return {prompt: list(dict.fromkeys(responses)) for prompt, responses in found.items()}


def _texts(prompt: object, responses: Any) -> list[str]:
    listed = not isinstance(responses, str) and isinstance(responses, (Sequence, np.ndarray))
    if not isinstance(prompt, str) or not listed or not all(isinstance(text, str) for text in responses):
        raise UserError(
            f"recorded has {str(responses)[:_SHOWN]!r} for the prompt {str(prompt)[:_SHOWN]!r}, expected a text and a "
            "list of texts; give {prompt: [responses]}"
        )
    return list(dict.fromkeys(responses))
