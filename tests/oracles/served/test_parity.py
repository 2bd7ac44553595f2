"""What a server did wrong, found by two or three scores beside a local model's; and chat templates for servers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from reward_stub import documented
from rude_server import rude_server

from duelenv.oracles import UserError, UtilityOracle
from duelenv.oracles.served import RewardServer, parity
from duelenv.oracles.served.texts import Chat

LOCAL = [2.0, -1.5, 0.25, 4.0]


class Fixed(UtilityOracle):
    """Gives the numbers that it was given."""

    def __init__(self, values: Any) -> None:
        self._values = np.asarray(values, dtype=np.float64)

    def utility(self, prompts: Any, responses: Any) -> Any:
        return self._values[: len(responses)]


def verdict(theirs: Any, ours: Any = LOCAL, count: int = 4) -> Any:
    return parity(Fixed(theirs), Fixed(ours), ["p"] * count, ["r"] * count)


def sigmoid(values: Any) -> Any:
    return 1 / (1 + np.exp(-np.asarray(values)))


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize(
    ("theirs", "expected", "said"),
    [
        (LOCAL, "same", "agree in scale, sign and order"),
        (np.array(LOCAL) * 1.01, "same", "agree"),
        (sigmoid(LOCAL), "activation", "sigmoid of the local scores: its activation was left on"),
        (-np.array(LOCAL), "sign", "sign turned"),
        (np.array(LOCAL) + 3.0, "shifted", r"plus 3, which no preference sees"),
    ],
)
def test_what_two_texts_tell(theirs: Any, expected: str, said: str, count: int) -> None:
    found = verdict(theirs, count=count)
    assert found.verdict == expected and said in found.sentence
    assert found.fine == (expected in ("same", "shifted"))
    assert found.local.tolist() == LOCAL[:count]


def test_what_needs_an_order_or_a_third_text() -> None:
    assert verdict([-1.5, 2.0], count=2).verdict == "order"
    assert verdict([4.0, 2.0, 0.25, -1.5]).verdict == "order"  # sorted, and taken by position
    assert verdict(np.array(LOCAL) / 4 + 1).verdict == "scale"
    assert "0.25 times the local ones plus 1: a temperature of 4 too much" in verdict(np.array(LOCAL) / 4 + 1).sentence
    assert verdict([1.0, -2.2, 0.6, 3.1]).verdict == "ranking"
    assert verdict([1.0, 2.5, 0.6, -1.0]).verdict == "different"
    assert verdict([0.5, 0.51, 0.5, 0.5], [0.5, 0.51, 0.5, 0.5]).verdict == "unclear"
    with pytest.raises(UserError, match="expected two or more"):
        verdict(LOCAL, count=1)


def test_a_server_whose_activation_cannot_be_switched_off_is_found_out() -> None:
    # An old server ignores the field that switches it off.
    def old(seen: Any) -> Any:
        seen.body.pop("use_activation", None)
        return documented("vllm_classify")(seen)

    texts = [f"r:{value}" for value in LOCAL]
    with rude_server(old) as server:
        found = parity(RewardServer(server.url, "vllm_classify"), Fixed(LOCAL), ["p"] * 4, texts)
        assert found.verdict == "activation"
        undone = RewardServer(server.url, "vllm_classify", scale="probability")
        assert parity(undone, Fixed(LOCAL), ["p"] * 4, texts).verdict == "same"


def tokenizer(add_begin: bool, template: str = "<bos> {% for m in messages %}{{ m.content }} {% endfor %}") -> Any:
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["<pad>", "<bos>", "<sep>", "tell", "kind"]
    inner = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if add_begin:
        inner.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<bos>", pad_token="<pad>")
    made.chat_template = template
    return made


@pytest.mark.parametrize("add_begin", [True, False])
def test_a_chat_template_is_sent_so_that_the_server_reads_one_beginning(add_begin: bool) -> None:
    made = tokenizer(add_begin)
    sent = Chat(made)("tell", "kind")
    assert made(sent)["input_ids"] == [1, 3, 4]  # what a server makes of it
    assert sent.startswith("<bos>") != add_begin


def test_a_template_that_no_server_would_read_is_refused() -> None:
    made = tokenizer(True, "{% for m in messages %}{{ m.content }} {% endfor %}")
    with pytest.raises(UserError, match="other tokens than it was trained on"):
        Chat(made)("tell", "kind")
    made.chat_template = "{{ raise_exception('no') }}"
    with pytest.raises(UserError, match="chat template refuses the prompt 'tell'"):
        Chat(made)("tell", "kind")
    made.chat_template = None
    with pytest.raises(UserError, match="no chat template"):
        Chat(made)


def test_the_tokenizer_of_a_folder_writes_what_is_sent(tmp_path: Any) -> None:
    tokenizer(True).save_pretrained(tmp_path)
    with rude_server(lambda seen: [{"embedding": [0.5]}]) as server:
        oracle = RewardServer(server.url, "sglang_classify", text="chat", tokenizer=str(tmp_path))
        assert oracle.utility(["tell"], ["kind"]) == [0.5]
    assert [text.split() for text in server.seen[0].body["text"]] == [["tell", "kind"]]
    with pytest.raises(UserError, match="cannot be loaded"):
        Chat.load(tmp_path / "absent")
