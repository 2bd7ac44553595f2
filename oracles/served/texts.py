"""What a server is sent of a prompt and a response; it must become the tokens that the model was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from duelenv.ground.checkpoints import refused_as
from duelenv.ground.dialogue import to_messages
from duelenv.ground.errors import UserError
from duelenv.oracles.templates import check_template

DEFAULT = "{prompt}\n\n{response}"


class Template:
    """A template with {prompt} and {response}."""

    def __init__(self, text: str) -> None:
        self._text = check_template(text, ("prompt", "response"), besides=())

    def __call__(self, prompt: str, response: str) -> str:
        """Fill it in."""
        return self._text.format(prompt=prompt, response=response)


class Chat:
    """The chat template of the model's own tokenizer, written out here.

    A server tokenizes what it is sent and adds its special tokens. The template has written some of them already (the
    beginning of sequence, usually), so they are left out of what is sent, and it is checked that the tokens come out
    as the template means them.

    Args:
        tokenizer: The model's tokenizer, of transformers.
    """

    def __init__(self, tokenizer: Any) -> None:
        if not getattr(tokenizer, "chat_template", None):
            raise UserError("text is 'chat' but the tokenizer has no chat template; use a template, or another one")
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, path: str | Path) -> Chat:
        """Load the tokenizer only; code that comes with it is not run."""
        from transformers import AutoTokenizer

        with refused_as(lambda reason: f"tokenizer {str(path)!r} cannot be loaded ({reason}); check the path"):
            tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        return cls(tokenizer)

    def __call__(self, prompt: str, response: str) -> str:
        """Write out the turns.

        Raises:
            UserError: The template refuses them, or no text becomes its tokens on a server.
        """
        turns = [message._asdict() for message in to_messages(prompt)]
        turns += [{"role": "assistant", "content": response}]
        with refused_as(lambda reason: f"the chat template refuses the prompt {prompt[:40]!r} ({reason})"):
            rendered: str = self._tokenizer.apply_chat_template(turns, tokenize=False)
        meant = self._tokenizer(rendered, add_special_tokens=False)["input_ids"]
        begin = getattr(self._tokenizer, "bos_token", None) or ""
        for sent in (rendered, rendered.removeprefix(begin)):
            if self._tokenizer(sent)["input_ids"] == meant:
                return sent
        raise UserError(
            "the server adds special tokens that the chat template has already written, beyond a beginning of "
            "sequence, so that the model would read other tokens than it was trained on; give text a template"
        )
