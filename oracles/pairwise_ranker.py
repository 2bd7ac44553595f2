"""A cross-encoder that reads a prompt with two responses at once and scores "the first is better".

For sequence-classification models of transformers. Not for models that bring their own code, and not for judges that
write their verdict. It has no utility: its preferences may be cyclic.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from duelenv.ground import checks
from duelenv.ground.dialogue import prompt_of
from duelenv.ground.errors import UserError
from duelenv.oracles import links
from duelenv.oracles.sequence_scores import Label, SequenceClassifier, load
from duelenv.oracles.templates import check_template, check_whole

ORDERS: Final = ("both", "given")


class PairwiseRanker:
    """P(first preferred) = F((s(first, second) - s(second, first)) / 2), where s is the model's logit.

    Reading both orders makes P(i beats j) + P(j beats i) = 1 whatever place the model favours, as the ranker of
    LLM-Blender does (Jiang, Ren & Lin 2023, arXiv:2306.02561). With `orders="given"` it is F(s(first, second)), at half
    the price and with the model's own position bias.

    Attributes:
        link: Name of F.
        free: True: it computes for nothing.
    """

    free = True

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        text: str = "{prompt}\n\n{first}\n\n{second}",
        orders: str = "both",
        label: Label = None,
        batch_size: int = 16,
        max_length: int | None = None,
        truncate: bool = False,
        link: str = "logistic",
    ) -> None:
        """Take a model and a tokenizer of transformers; the model is put into evaluation mode.

        Args:
            model: A sequence-classification model.
            tokenizer: Its tokenizer.
            text: A template with {prompt}, {first} and {second}, as the model was trained on.
            orders: One of `ORDERS`.
            label: Of a model with several, whose logit says that the first is better; or two, "first" and "second".
            batch_size: Sequences in one forward pass.
            max_length: Most tokens of one sequence; by default what tokenizer and model allow.
            truncate: Cut longer sequences instead of refusing them.
            link: Name of the link.

        Raises:
            UserError: As `SequenceClassifier`, or a setting is refused.
        """
        links.link(link)
        self.link = link
        self._text = check_template(text, ("prompt", "first", "second"))
        self._both = checks.one_of("orders", orders, ORDERS) == "both"
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
        text: str = "{prompt}\n\n{first}\n\n{second}",
        orders: str = "both",
        label: Label = None,
        batch_size: int = 16,
        max_length: int | None = None,
        truncate: bool = False,
        link: str = "logistic",
    ) -> PairwiseRanker:
        """Load model and tokenizer with transformers, never running code that comes with them.

        Args:
            path: A folder, or a name that transformers knows.
            dtype: "float32", "bfloat16" or "float16".
            device: A torch device; by default the first CUDA device if there is one, else the CPU.
            text: As for the constructor, like the settings after it.
            orders: As for the constructor.
            label: As for the constructor.
            batch_size: As for the constructor.
            max_length: As for the constructor.
            truncate: As for the constructor.
            link: As for the constructor.

        Raises:
            UserError: The checkpoint cannot be loaded whole, or a setting is refused.
        """
        model, tokenizer = load(path, dtype=dtype, device=device)
        return cls(
            model,
            tokenizer,
            text=text,
            orders=orders,
            label=label,
            batch_size=batch_size,
            max_length=max_length,
            truncate=truncate,
            link=link,
        )

    def __call__(self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str], /) -> NDArray[np.float64]:
        """Compute P(first preferred), float64 [N]."""
        score = self.scores(prompts, first, second)
        if self._both:
            score = 0.5 * (score - self.scores(prompts, second, first))
        return np.asarray(links.link(self.link)(score), dtype=np.float64)

    def scores(self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str]) -> NDArray[np.float64]:
        """Compute the logit of "the first is better" in this order, float64 [N].

        Raises:
            UserError: A sequence is longer than the model reads and `truncate` is off, or something is no text.
        """
        encoded = [
            self._encode(prompt_of(prompt, "prompts", f"prompt {place}"), one, two)
            for place, (prompt, one, two) in enumerate(zip(prompts, first, second, strict=True))
        ]
        return self._classifier.scores(encoded, first)

    def _encode(self, prompt: str, first: str, second: str) -> dict[str, list[int]]:
        for response in (first, second):
            if not isinstance(response, str):
                raise UserError(f"response is {response!r}, expected a string; correct it")
        check_whole(prompt, first, second)
        return self._classifier.encode(self._text.format(prompt=prompt, first=first, second=second), shown=first)
