"""Between text and tokens: prompts become padded token ids, tokens become texts; not for running a model.

Prompts are padded on the left, so that every response begins in the same column, with an attention mask beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from duelenv.ground import checks
from duelenv.ground.context import Context
from duelenv.ground.dialogue import prompt_of, to_messages
from duelenv.ground.errors import UserError

#: Prompts whose token ids are kept.
_REMEMBERED = 4_096

#: Words of a tokenizer that are tried to find out what it adds to a text.
_TRIED = 256


@dataclass(frozen=True)
class Prompts:
    """Prompts as token ids padded on the left: ids and attention int64 [B, T]."""

    ids: torch.Tensor
    attention: torch.Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def chosen(self, rows: torch.Tensor) -> Prompts:
        """Take some of them, int64 [b], padded no wider than they need."""
        ids, attention = self.ids[rows], self.attention[rows]
        spare = ids.shape[1] - int(attention.sum(-1).max())
        return Prompts(ids[:, spare:], attention[:, spare:])

    def to(self, device: torch.device) -> Prompts:
        """Move them to a device."""
        return Prompts(self.ids.to(device), self.attention.to(device))

    @classmethod
    def none(cls, count: int) -> Prompts:
        """Make what stands before responses that are read without their prompts: no tokens, [count, 0]."""
        nothing = torch.zeros((count, 0), dtype=torch.long)
        return cls(nothing, nothing)


class Codec:
    """A tokenizer with what one model adds: the tokens that end a response, and the length of the context.

    Args:
        tokenizer: any transformers tokenizer.
        model: the transformers model, without a PEFT wrapper.
        context: how far it may be read.
        chat_template: whether a prompt is a dialogue, or a user's message, to be put in the tokenizer's chat template.
        chat_template_kwargs: what the template is told besides, such as {"enable_thinking": False}.

    Attributes:
        end_ids: every token id that ends a response, the tokenizer's own first.
        pad_id: the token id of padding; where the tokenizer has none, an end token stands in.
        context_length: most tokens of a prompt and its response together; None where the model states no limit.

    Raises:
        UserError: a chat template is asked for and the tokenizer has none.
    """

    def __init__(
        self,
        tokenizer: Any,
        model: Any,
        context: Context,
        *,
        chat_template: bool,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        if checks.flag("chat_template", chat_template) and not getattr(tokenizer, "chat_template", None):
            raise UserError(
                "chat_template=True needs a tokenizer with a chat template and this one has none; set "
                "tokenizer.chat_template or pass chat_template=False"
            )
        self.chat_template_kwargs = checks.mapping("chat_template_kwargs", chat_template_kwargs)
        if self.chat_template_kwargs and not chat_template:
            raise UserError(
                f"chat_template_kwargs is {self.chat_template_kwargs!r} without a chat template; set "
                "chat_template=True, or leave it out"
            )
        self.tokenizer = tokenizer
        self._remembered: dict[str, list[int]] = {}
        self.chat_template = chat_template
        settings = getattr(model, "generation_config", None)
        found: list[int] = []
        for ids in (getattr(tokenizer, "eos_token_id", None), getattr(settings, "eos_token_id", None)):
            found += [] if ids is None else [int(ids)] if isinstance(ids, int) else [int(i) for i in ids]
        rows = int(model.get_input_embeddings().weight.shape[0])
        self.end_ids = tuple(token for token in dict.fromkeys(found) if 0 <= token < rows)  # others are never drawn
        pad = getattr(tokenizer, "pad_token_id", None)
        # A padding token that was added behind the embeddings cannot be read; it is masked, so that any other serves.
        usable = [int(token) for token in (pad, *self.end_ids) if token is not None and int(token) < rows]
        self.pad_id = (usable or [0])[0]
        self._rows = rows
        self._before, self._appended = (0, 0) if chat_template else _added_tokens(tokenizer)
        self.context_length = context.length
        self._reason = context.reason

    def encode(self, prompts: Sequence[Any], new_tokens: int) -> Prompts:
        """Tokenize prompts that `new_tokens` more tokens will follow.

        Args:
            prompts: strings, or messages of a dialogue each.
            new_tokens: how many will follow.

        Raises:
            UserError: as `check`.
        """
        encoded = self.check(prompts, new_tokens)
        width = max(map(len, encoded))
        padded = np.full((len(encoded), width), self.pad_id, dtype=np.int64)
        attention = np.zeros((len(encoded), width), dtype=np.int64)
        for index, ids in enumerate(encoded):
            padded[index, width - len(ids) :] = ids
            attention[index, width - len(ids) :] = 1
        return Prompts(torch.from_numpy(padded), torch.from_numpy(attention))

    def check(self, prompts: Sequence[Any], new_tokens: int) -> list[list[int]]:
        """Return the token ids of prompts, of each as many as it has.

        Raises:
            UserError: no prompts, one string instead of several, a prompt that is neither text nor messages, one too
                long for the context, one that the chat template refuses, or one without tokens where the tokenizer has
                nothing to put in its place.
        """
        if isinstance(prompts, str):
            raise UserError(f"prompts is the string {prompts[:40]!r}; expected a sequence of strings")
        texts = [prompt_of(prompt, "prompts", f"prompt {index}") for index, prompt in enumerate(prompts)]
        if not texts:
            raise UserError("there are no prompts; give at least one")
        known = self._ids_of(texts)
        silent = next(
            (index for index, text in enumerate(texts) if text.strip() and len(known[text]) <= self._before), None
        )
        if silent is not None:
            raise UserError(
                f"the tokenizer ({type(self.tokenizer).__name__}) makes no tokens of prompt {silent}, "
                f"{texts[silent][:40]!r}; give the tokenizer that the model was trained with"
            )
        encoded = [known[text] or [self._first_token(index)] for index, text in enumerate(texts)]
        for index, ids in enumerate(encoded):
            self._check_rows(f"prompt {index}", ids)
        if self.context_length is not None:
            limit = self.context_length - new_tokens
            if limit < 1:
                raise UserError(
                    f"{new_tokens} new tokens leave no room for a prompt ({self._reason}, {self.context_length}); "
                    "lower max_new_tokens"
                )
            for index, ids in enumerate(encoded):
                if len(ids) > limit:
                    raise UserError(
                        f"prompt {index} has {len(ids)} tokens; expected at most {limit} ({self._reason}, "
                        f"{self.context_length}, less {new_tokens} new tokens): shorten it or lower max_new_tokens"
                    )
        return encoded

    def _check_rows(self, name: str, ids: list[int]) -> None:
        if ids and max(ids) >= self._rows:
            token = self.tokenizer.convert_ids_to_tokens([max(ids)])[0]
            raise UserError(
                f"{name} holds the token {token!r} ({max(ids)}), for which the model's {self._rows} embeddings have no "
                "row; call model.resize_token_embeddings(len(tokenizer)), or leave it out"
            )

    def _ids_of(self, texts: list[str]) -> dict[str, list[int]]:
        """Map each prompt to token ids; a round meets its prompts many times, and training the same ones again."""
        new = [text for text in dict.fromkeys(texts) if text not in self._remembered]
        if new:
            if len(self._remembered) + len(new) > _REMEMBERED:
                self._remembered.clear()
                new = list(dict.fromkeys(texts))
            shown = [self._in_template(text) for text in new] if self.chat_template else new
            try:
                encoded = self.tokenizer(shown, add_special_tokens=not self.chat_template)["input_ids"]
            except Exception as error:  # a tokenizer may raise what it likes
                raise _unreadable(new, error) from None
            if self._appended:
                encoded = [ids[: len(ids) - self._appended] for ids in encoded]
            self._remembered.update(zip(new, encoded, strict=True))
        return self._remembered

    def _in_template(self, text: str) -> str:
        """Put a dialogue, or a user's message, in the tokenizer's chat template, up to where the assistant speaks."""
        messages = [message._asdict() for message in to_messages(text)]
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    messages, add_generation_prompt=True, tokenize=False, **self.chat_template_kwargs
                )
            )
        except Exception as error:  # a template may raise what it likes
            roles = ", ".join(message["role"] for message in messages)
            raise UserError(
                f"the chat template refuses the prompt {text[:40]!r} of the turns {roles} "
                f"({(str(error).strip() or type(error).__name__).splitlines()[0][:120]}); change its turns, or set "
                "chat_template=False"
            ) from error

    def _first_token(self, index: int) -> int:
        """Find what stands for a prompt without tokens, since a model needs something to continue."""
        begin = getattr(self.tokenizer, "bos_token_id", None)
        if begin is not None:
            return int(begin)
        if self.end_ids:
            return self.end_ids[0]
        raise UserError(
            f"prompt {index} has no tokens and the tokenizer has neither a beginning nor an end token to put in its "
            "place; give a prompt with text"
        )

    def encode_responses(self, responses: Sequence[str], length: int) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
        """Tokenize responses that somebody else wrote, each with its end where there is room: int64, int8 [N, L].

        Args:
            responses: N texts.
            length: L.

        Raises:
            UserError: A response has more than L tokens, or none.
        """
        tokens = np.full((len(responses), length), self.pad_id, dtype=np.int64)
        mask = np.zeros((len(responses), length), dtype=np.int8)
        try:
            encoded = self.tokenizer(list(responses), add_special_tokens=False)["input_ids"] if len(responses) else []
        except Exception as error:  # a tokenizer may raise what it likes
            raise _unreadable(responses, error) from None
        for index, ids in enumerate(encoded):
            self._check_rows(f"response {responses[index][:40]!r}", ids)
            if len(ids) > length:
                raise UserError(
                    f"response {responses[index][:40]!r} has {len(ids)} tokens, expected at most {length}; leave it "
                    "out, or raise max_new_tokens"
                )
            ids = [*ids, *self.end_ids[:1]][:length]
            if not ids:
                raise UserError(f"response {responses[index][:40]!r} has no tokens; leave it out")
            tokens[index, : len(ids)], mask[index, : len(ids)] = ids, 1
        return tokens, mask

    def decode(self, tokens: NDArray[np.int64], mask: NDArray[np.int8]) -> NDArray[np.object_]:
        """Write tokens [..., L] under their mask as strings without special tokens, object [...]."""
        lengths = mask.sum(-1).reshape(-1).tolist()
        rows = tokens.reshape(-1, tokens.shape[-1]).tolist()
        texts = self.tokenizer.batch_decode(
            [row[:end] for row, end in zip(rows, lengths, strict=True)],
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )
        out = np.empty(len(texts), dtype=object)
        out[:] = texts
        return out.reshape(tokens.shape[:-1])


def _added_tokens(tokenizer: Any) -> tuple[int, int]:
    """Count the tokens that a tokenizer puts before a text, and behind it: its end, which nothing is to follow.

    Asked of a text whose own tokens can be told from those; not every tokenizer knows the first that comes to mind.
    """
    known = [str(token) for token in tokenizer.convert_ids_to_tokens(range(min(len(tokenizer), _TRIED)))]
    for text in ("a", *known):
        try:
            plain = tokenizer(text, add_special_tokens=False)["input_ids"]
            whole = tokenizer(text)["input_ids"]
        except Exception:  # one that has no word for what it does not know raises what it likes
            continue
        places = [start for start in range(len(whole) - len(plain) + 1) if whole[start : start + len(plain)] == plain]
        if plain and len(places) == 1:
            return places[0], len(whole) - len(plain) - places[0]
    return 0, 0


def _unreadable(texts: Sequence[str], error: Exception) -> UserError:
    """Say what is wrong with texts that a tokenizer cannot read."""
    broken = next((text for text in texts if any("\ud800" <= letter <= "\udfff" for letter in text)), None)
    if broken is None:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        return UserError(
            f"the tokenizer cannot read one of the texts {texts[0][:40]!r} and following ({reason}); leave it out, or "
            "give the tokenizer that the model was trained with"
        )
    return UserError(
        f"the text {broken[:40]!r} holds half of a surrogate pair, which is no text; correct how it was read, or "
        "leave it out"
    )
