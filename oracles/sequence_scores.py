"""A sequence-classification model of transformers: from tokens to logits, in batches, and how one is loaded.

Not for how texts are put together: that is said by who uses it. Importing this module loads torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from duelenv.ground import checks
from duelenv.ground.checkpoints import check_complete, quiet_transformers, refuse_kernels, refused_as
from duelenv.ground.context import context_of
from duelenv.ground.devices import usable_device
from duelenv.ground.errors import UserError

Label = str | int | Sequence[str | int] | None
"""One label of a model, or two whose difference counts; None where it has one."""

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


class SequenceClassifier:
    """Logits of token sequences; one label of the model counts, or the difference of two.

    Scores do not depend on what else is in the batch, up to rounding: sequences are padded on the
    right and masked.

    Attributes:
        model: The transformers model, in evaluation mode.
        tokenizer: Its tokenizer.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        label: Label = None,
        batch_size: int = 16,
        max_length: int | None = None,
        truncate: bool = False,
    ) -> None:
        """Take a model and a tokenizer of transformers; the model is put into evaluation mode.

        Args:
            model: A sequence-classification model.
            tokenizer: Its tokenizer.
            label: Of a model with several, which counts: a name of its id2label or an index; or two of them, the logit
                of the first less that of the second.
            batch_size: Sequences in one forward pass.
            max_length: Most tokens of one sequence; by default what tokenizer and model allow.
            truncate: Cut longer sequences, on the tokenizer's truncation side, instead of refusing them.

        Raises:
            UserError: The model has several labels and none is chosen, it cannot be run on token ids, or a setting is
                refused.
        """
        self.model = model.eval()
        self.tokenizer = tokenizer
        self._places = _places_of(label, model.config)
        self._batch_size = checks.integer("batch_size", batch_size, low=1)
        allowed = _length_limit(model, tokenizer)
        if max_length is not None:
            allowed = min(allowed, checks.integer("max_length", max_length, low=1))
        self._max_length = allowed
        self._truncate = checks.flag("truncate", truncate)
        self._padded = self._scores_padded_as_alone()

    def encode(self, *texts: str, shown: str, special: bool = True) -> dict[str, list[int]]:
        """Find token ids (and token types, where the model has them) of one sequence, unpadded.

        Args:
            texts: One text, or two in the tokenizer's own format for pairs.
            shown: The response, for errors.
            special: Whether the tokenizer adds its special tokens.

        Raises:
            UserError: The sequence is too long, or empty.
        """
        options: dict[str, Any] = {"truncation": self._truncate, "return_attention_mask": False}
        if self._truncate:
            options["max_length"] = self._max_length
        encoded = self.tokenizer(*texts, add_special_tokens=special, **options)
        length = len(encoded["input_ids"])
        if length > self._max_length:
            raise UserError(
                f"response {shown[:60]!r} makes a sequence of {length} tokens, expected at most "
                f"{self._max_length} of this reward model; shorten it, or set truncate to true"
            )
        if length == 0:
            raise UserError(
                "an empty prompt and response make a sequence of no tokens, expected at least one; "
                "put a word into the text template"
            )
        wanted = ("input_ids", "token_type_ids")
        return {name: list(encoded[name]) for name in wanted if name in encoded}

    def scores(self, encoded: Sequence[dict[str, list[int]]], shown: Sequence[str]) -> NDArray[np.float64]:
        """Compute the logit of each sequence, float64 [N].

        Args:
            encoded: N sequences.
            shown: Their responses, for errors.

        Raises:
            UserError: The model gives a logit that is not finite, which would pass for declining to answer.
        """
        scores = np.empty(len(encoded))
        # Longest first: little padding, and a batch that does not fit fails at once.
        order = sorted(range(len(encoded)), key=lambda row: -len(encoded[row]["input_ids"]))
        for start in range(0, len(order), self._batch_size):
            rows = order[start : start + self._batch_size]
            with refused_as(self._not_run):
                scores[rows] = self._forward([encoded[row] for row in rows])
        if not np.isfinite(scores).all():
            row = int(np.argmin(np.isfinite(scores)))
            raise UserError(
                f"reward model gives response {shown[row][:40]!r} the utility {scores[row]} in {self.model.dtype}, "
                "expected a finite number; check its weights, or load it with dtype='float32'"
            )
        return scores

    def _scores_padded_as_alone(self) -> bool:
        """Tell whether a short sequence keeps its score beside a longer one; if not, sequences run one by one.

        Models that count padding in (convolutions, Fourier transforms) or read the last place whatever is there score
        something else, in silence. Encoder-decoders want equally many ends of sequence in all rows.
        """
        self._padded = False
        if self.model.config.is_encoder_decoder:
            return False
        with refused_as(self._not_run):
            size = int(self.model.get_input_embeddings().weight.shape[0])
            long = [(7 * place) % max(1, size // 2) + size // 4 for place in range(min(24, self._max_length))]
            rows = [{"input_ids": long}, {"input_ids": long[: max(1, len(long) // 3)]}]
            alone = self._forward(rows)
            self._padded = True
            beside = self._forward(rows)
        rounding = 1e-3 if self.model.dtype in (torch.float32, torch.float64) else 5e-2
        return bool((np.abs(beside - alone) <= rounding * (1 + np.abs(alone))).all())

    def _not_run(self, reason: str) -> str:
        return (
            f"{type(self.model).__name__} could not be run on token ids alone ({reason}); expected a "
            "sequence-classification model of transformers, and its own tokenizer"
        )

    @torch.no_grad()
    def _forward(self, batch: list[dict[str, list[int]]]) -> NDArray[np.float64]:
        """Compute the logits of one batch, float64 [B]."""
        device = self.model.device
        filler = self._filler(batch)
        if len(batch) > 1 and (filler is None or not self._padded):  # one by one there is nothing to fill
            return np.concatenate([self._forward([row]) for row in batch])
        longest = max(len(row["input_ids"]) for row in batch)

        def padded(rows: list[list[int]], value: int) -> torch.Tensor:
            filled = [row + [value] * (longest - len(row)) for row in rows]
            return torch.tensor(filled, dtype=torch.long, device=device)

        inputs = {
            "input_ids": padded([row["input_ids"] for row in batch], filler or 0),
            "attention_mask": padded([[1] * len(row["input_ids"]) for row in batch], 0),
        }
        if "token_type_ids" in batch[0]:
            inputs["token_type_ids"] = padded([row["token_type_ids"] for row in batch], 0)
        config = self.model.config.get_text_config()
        padding, config.pad_token_id = config.pad_token_id, filler
        try:
            logits = self.model(**inputs).logits.double()  # (B, labels)
        finally:
            config.pad_token_id = padding
        first, *second = self._places
        scores: NDArray[np.float64] = logits[:, first].cpu().numpy()
        return scores - logits[:, second[0]].cpu().numpy() if second else scores

    def _filler(self, batch: list[dict[str, list[int]]]) -> int | None:
        """Find a token to pad with that no sequence of the batch holds; None where all are held.

        Decoders read the last token that is not the padding, by its id: where that is the end of
        sequence, they would read before the end that a text really has.
        """
        config = self.model.config.get_text_config()
        end = getattr(config, "eos_token_id", None)
        ends = end if isinstance(end, list | tuple) else [end]
        taken = {token for row in batch for token in row["input_ids"]} | set(ends)
        usual = (config.pad_token_id, self.tokenizer.pad_token_id)
        size = int(self.model.get_input_embeddings().weight.shape[0])
        wanted = [token for token in usual if isinstance(token, int) and 0 <= token < size]
        return next((token for token in (*wanted, *range(size)) if token not in taken), None)


def load(path: str | Path, *, dtype: str, device: str | None) -> tuple[Any, Any]:
    """Load model and tokenizer with transformers, never running code that comes with them.

    Args:
        path: A folder, or a name that transformers knows.
        dtype: "float32", "bfloat16" or "float16".
        device: A torch device; by default the first CUDA device if there is one, else the CPU.

    Raises:
        UserError: Nothing can be loaded from the path, the checkpoint lacks weights (a head that nobody trained would
            be drawn at random), or a setting is refused.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    checks.one_of("dtype", dtype, DTYPES)
    place = usable_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    with refused_as(
        lambda reason: (
            f"reward model {str(path)!r} cannot be loaded ({reason}), expected a "
            "sequence-classification model with its tokenizer; check the path"
        )
    ):
        # Without being told, transformers asks at the terminal whether a stranger's file may run.
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        with quiet_transformers():
            refuse_kernels(path)
            loaded: Any = AutoModelForSequenceClassification.from_pretrained(
                path,
                dtype=DTYPES[dtype],
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
    model, info = loaded
    check_complete(
        str(path),
        model,
        info,
        expected="a sequence-classification model",
        endings=("SequenceClassification", "RewardModel"),
    )
    return model.to(place), tokenizer


def _length_limit(model: Any, tokenizer: Any) -> int:
    """Find the most tokens that both take; tokenizers without a limit report 1e30."""
    positions = context_of(model).length
    limit = min(tokenizer.model_max_length, math.inf if positions is None else positions)
    return int(min(limit, 2**31))


def _places_of(label: Label, config: Any) -> list[int]:
    """Find which logit is the utility, or which two make it."""
    names = {int(place): str(name) for place, name in (config.id2label or {}).items()}
    count = int(config.num_labels)
    if label is None:
        if count == 1:
            return [0]
        said = ", ".join(names.get(place, str(place)) for place in range(count))
        raise UserError(
            f"reward model has {count} labels ({said}), and the utility is one of their logits; choose it with "
            "label=.., or two of them, the better first, for a difference"
        )
    wanted = list(label) if isinstance(label, list | tuple) else [label]
    if len(wanted) not in (1, 2) or len(set(map(str, wanted))) < len(wanted):
        raise UserError(f"label is {label!r}, expected one label or two different ones; correct it")
    places = []
    for one in wanted:
        named = [place for place, name in names.items() if name == one]
        if isinstance(one, int) and not isinstance(one, bool) and 0 <= one < count:
            named = [one]
        if len(named) != 1:
            known = ", ".join(names.get(place, str(place)) for place in range(count))
            raise UserError(f"label is {one!r}, expected one of {known}, or its index below {count}; correct it")
        places += named
    if len(set(places)) < len(places):
        raise UserError(f"label is {label!r}, which is one label twice; give two different ones")
    return places
