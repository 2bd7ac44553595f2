"""Any sequence-classification reward model of transformers as a Bradley-Terry utility.

A logit of the model is the utility, or a difference of two. For models loaded from a folder or
held in memory; not for training them, and not for judges that compare two responses in one text.
Importing this module loads torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duelenv.ground.checkpoints import refused_as
from duelenv.ground.dialogue import prompt_of, to_messages
from duelenv.ground.errors import UserError
from duelenv.oracles import links
from duelenv.oracles.base import UtilityOracle
from duelenv.oracles.sequence_scores import Label, SequenceClassifier, load
from duelenv.oracles.templates import check_template, check_whole


class RewardModel(UtilityOracle):
    """Utility = the logit of a reward model for (prompt, response).

    Scores do not depend on what else is in the batch, up to rounding: sequences are padded on the
    right and masked.

    Attributes:
        model: the transformers model, in evaluation mode.
        tokenizer: its tokenizer.
        link: name of the link.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        text: str = "{prompt}\n\n{response}",
        label: Label = None,
        batch_size: int = 16,
        max_length: int | None = None,
        truncate: bool = False,
        link: str = "logistic",
    ) -> None:
        """Take a model and a tokenizer of transformers; the model is put into evaluation mode.

        Args:
            model: a sequence-classification model.
            tokenizer: its tokenizer.
            text: how prompt and response become one input: a template with {prompt} and {response},
                "pair" (the tokenizer's own format for two texts, with its separators and token
                types) or "chat" (its chat template, with a user's and an assistant's turn).
            label: of a model with several, whose logit is the utility: a name of its id2label or an
                index; or two of them, the logit of the first less that of the second.
            batch_size: sequences in one forward pass.
            max_length: most tokens of one sequence; by default what tokenizer and model allow.
            truncate: cut longer sequences, on the tokenizer's truncation side, instead of refusing
                them.
            link: name of the link.

        Raises:
            UserError: the model has several labels and none is chosen, it cannot be run on token ids, or a setting is
                refused.
        """
        links.link(link)
        self.link = link
        self.model, self.tokenizer = model, tokenizer
        self._text = _check_text(text, tokenizer)
        self._classifier = SequenceClassifier(
            model, tokenizer, label=label, batch_size=batch_size, max_length=max_length, truncate=truncate
        )

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        dtype: str = "float32",
        device: str | None = None,
        text: str = "{prompt}\n\n{response}",
        label: Label = None,
        batch_size: int = 16,
        max_length: int | None = None,
        truncate: bool = False,
        link: str = "logistic",
    ) -> RewardModel:
        """Load model and tokenizer with transformers, never running code that comes with them.

        Args:
            path: a folder, or a name that transformers knows.
            dtype: "float32", "bfloat16" or "float16".
            device: a torch device; by default the first CUDA device if there is one, else the CPU.
            text: as for the constructor, like the settings after it.
            label: as for the constructor.
            batch_size: as for the constructor.
            max_length: as for the constructor.
            truncate: as for the constructor.
            link: as for the constructor.

        Raises:
            UserError: nothing can be loaded from the path, the checkpoint lacks weights (a head that
                nobody trained would be drawn at random), or a setting is refused.
        """
        model, tokenizer = load(path, dtype=dtype, device=device)
        return cls(
            model,
            tokenizer,
            text=text,
            label=label,
            batch_size=batch_size,
            max_length=max_length,
            truncate=truncate,
            link=link,
        )

    def utility(self, prompts: Sequence[str], responses: Sequence[str]) -> NDArray[np.float64]:
        """Compute the logit of each response, float64 [N].

        Args:
            prompts: N strings, or messages of a dialogue each.
            responses: N strings.

        Raises:
            UserError: a sequence is longer than the model reads, and `truncate` is off; something is no text; or the
                model gives a logit that is not finite, which would pass for declining to answer.
        """
        prompts = [prompt_of(prompt, "prompts", f"prompt {place}") for place, prompt in enumerate(prompts)]
        encoded = [self._encode(p, r) for p, r in zip(prompts, responses, strict=True)]
        return self._classifier.scores(encoded, responses)

    def _encode(self, prompt: str, response: str) -> dict[str, list[int]]:
        """Find token ids (and token types, where the model has them) of one sequence, unpadded."""
        if not isinstance(response, str):
            raise UserError(f"response is {response!r}, expected a string; correct it")
        check_whole(prompt, response)
        if self._text == "pair":
            return self._classifier.encode(prompt, response, shown=response)
        if self._text == "chat":
            # The template has already written the special tokens.
            return self._classifier.encode(self._chat(prompt, response), shown=response, special=False)
        return self._classifier.encode(self._text.format(prompt=prompt, response=response), shown=response)

    def _chat(self, prompt: str, response: str) -> str:
        turns = [message._asdict() for message in to_messages(prompt)]
        turns += [{"role": "assistant", "content": response}]
        with refused_as(
            lambda reason: (
                f"the reward model's chat template refuses the prompt {prompt[:40]!r} of the turns "
                f"{', '.join(turn['role'] for turn in turns)} ({reason}); change its turns, or give text another "
                "template"
            )
        ):
            rendered: str = self.tokenizer.apply_chat_template(turns, tokenize=False)
        return rendered


def _check_text(text: str, tokenizer: Any) -> str:
    text = check_template(text, ("prompt", "response"), besides=("pair", "chat"))
    if text == "chat" and not getattr(tokenizer, "chat_template", None):
        raise UserError(
            "text is 'chat' but the tokenizer has no chat template, expected one; use 'pair' "
            "or a template with {prompt} and {response}"
        )
    return text
