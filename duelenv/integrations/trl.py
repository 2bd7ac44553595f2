"""Oracles and beliefs as reward functions of TRL's trainers (GRPO, RLOO); TRL itself is not imported.

TRL calls a reward function with the keywords `prompts`, `completions` and more, texts or lists of messages, one of each
for every completion, and takes one number each, None where there is none. Labels of a run become a preference dataset
for its other trainers by `duelenv labels RUN --trl --export FILE`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duelenv.data.dialogues import text_of
from duelenv.data.tables import Place
from duelenv.ground.errors import UserError
from duelenv.oracles.base import Oracle, UtilityOracle, ask, finite_utility
from duelenv.oracles.sources import answers_later
from duelenv.worlds.encoders import DEFAULT, Block, read_features, side_by_side

Encoder = Callable[[Sequence[str], Sequence[str]], NDArray[Any]]
"""(prompts, responses) -> features [n, d]."""


class RewardFunction:
    """Rewards completions as an oracle prefers them, or as a belief values them.

    - An oracle with a utility rewards with that, in nats of log-odds.
    - Any other oracle compares the completions of one prompt with each other: the reward is the mean probability to be
      preferred over the others, in [0, 1], equal texts counting 1/2. A group of G different completions costs
      G (G - 1) / 2 questions, each put in one order; a completion without another one to its prompt has no reward.
    - A belief, or an agent that holds one, rewards with its mean utility. It reads features, as in the world that it
      learnt in.

    Args:
        source: The oracle, belief or agent.
        features: Of a belief: the policy whose start model embedded the responses, or the encoder that the world had.
        blocks: With a policy, the `features` that its world had, if not the default.
        name: What TRL's logs call it; by default the name of the source.

    Raises:
        UserError: A source that answers later, an agent without a belief, a belief without features, or features
            beside an oracle, which reads none.

    Example:
        >>> from duelenv.oracles import make
        >>> reward = RewardFunction(make("length", target=2))
        >>> best, other = reward(prompts=["Why?", "Why?"], completions=["so it", "so it is in the end"])
        >>> best > other
        True
    """

    def __init__(self, source: Any, *, features: Any = None, blocks: Any = DEFAULT, name: str | None = None) -> None:
        held = getattr(source, "belief", source)
        self._belief = (
            held if callable(getattr(held, "sample", None)) and callable(getattr(held, "mean", None)) else None
        )
        self._oracle: Oracle | None = None
        self._encode: Encoder | None = None
        if self._belief is not None:
            if features is None:
                raise UserError(
                    "a belief values features of responses and none are given; pass features=, the policy of the world "
                    "that it learnt in, or the encoder that this world had"
                )
            self._encode = features if not hasattr(features, "embed") else _Embedding(features, read_features(blocks))
        elif hasattr(source, "recommend"):
            raise UserError(
                f"{type(source).__name__} holds no belief that could value a response; pass an agent that does"
            )
        elif answers_later(source):
            raise UserError("a source that answers later cannot reward a completion at once; pass an oracle")
        elif features is not None:
            raise UserError("an oracle reads texts and no features; leave features out")
        else:
            self._oracle = source
        self.__name__ = name or f"duelenv_{getattr(source, '__name__', type(source).__name__)}"

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **_: Any) -> list[float | None]:
        """Return a reward for each completion.

        Args:
            prompts: Texts or lists of messages, one for each completion.
            completions: Likewise.

        Raises:
            UserError: Something that is neither, or a response that features cannot be made of.
        """
        asked = [_text(prompt, "prompts", row) for row, prompt in enumerate(prompts)]
        said = [_text(completion, "completions", row) for row, completion in enumerate(completions)]
        if self._belief is not None and self._encode is not None:
            features = np.asarray(self._encode(asked, said), np.float32)
            return _plain(self._belief.mean(features[np.newaxis])[0])
        assert self._oracle is not None
        if isinstance(self._oracle, UtilityOracle):
            return _plain(finite_utility(self._oracle, asked, said))
        return _plain(_win_rates(self._oracle, asked, said))


class _Embedding:
    """The features of responses as a world with this policy has them, [n, d]."""

    def __init__(self, policy: Any, blocks: Sequence[Block]) -> None:
        self._policy, self._blocks = policy, blocks

    def __call__(self, prompts: Sequence[str], responses: Sequence[str]) -> NDArray[np.float32]:
        def states() -> NDArray[np.float32]:
            tokens, mask = self._policy.tokens_of(np.array([[text] for text in responses], dtype=object))
            embedded: NDArray[np.float32] = self._policy.embed(list(prompts), tokens, mask)
            return embedded[:, 0]

        return side_by_side(
            self._blocks, states, lambda encoder: np.asarray(encoder(list(prompts), list(responses)), np.float32)
        )


def _win_rates(oracle: Oracle, prompts: Sequence[str], responses: Sequence[str]) -> NDArray[np.float64]:
    """Return the mean probability of each response to be preferred over the others to its prompt, NaN without any."""
    groups: dict[str, list[int]] = {}
    for row, prompt in enumerate(prompts):
        groups.setdefault(prompt, []).append(row)
    meetings = [(a, b) for rows in groups.values() for place, a in enumerate(rows) for b in rows[:place]]
    # Equal texts are one question, whoever wrote them.
    questions = {(prompts[a], responses[a], responses[b]): 0.5 for a, b in meetings}
    open_questions = [  # of two that are each other's reverse, one
        (prompt, first, second)
        for prompt, first, second in questions
        if first != second and not ((prompt, second, first) in questions and second < first)
    ]
    if open_questions:
        answers = ask(oracle, *(list(column) for column in zip(*open_questions, strict=True))).expected_label
        for (prompt, first, second), win in zip(open_questions, answers.tolist(), strict=True):
            questions[prompt, first, second], questions[prompt, second, first] = win, 1.0 - win
    wins, rivals = np.zeros(len(prompts)), np.zeros(len(prompts))
    for a, b in meetings:
        win = questions[prompts[a], responses[a], responses[b]]
        if not np.isnan(win):  # the oracle declined
            wins[[a, b]] += (win, 1.0 - win)
            rivals[[a, b]] += 1.0
    return np.divide(wins, rivals, out=np.full(len(prompts), np.nan), where=rivals > 0)


def _text(value: Any, name: str, row: int) -> str:
    """Return the text of a string, of a message, or of several as a dialogue."""
    if isinstance(value, str):
        return value
    messages = value if isinstance(value, list) else []
    contents = [one.get("content") if isinstance(one, Mapping) else None for one in messages]
    if not contents or not all(isinstance(content, str) for content in contents):
        raise UserError(
            f'{name}[{row}] is {str(value)[:40]!r}, expected text, or messages {{"role": ..., "content": text}}; give '
            "one for each completion"
        )
    return str(contents[0]) if len(contents) == 1 else text_of(value, name, Place(Path(name), row))


def _plain(rewards: NDArray[np.floating[Any]]) -> list[float | None]:
    return [None if np.isnan(reward) else float(reward) for reward in rewards.tolist()]
