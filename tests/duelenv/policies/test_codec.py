"""What tokenizers do, and what a prompt becomes: dialogues in any container, no end that nothing may follow."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from families import VOCABULARY, model_of
from families import tokenizer as plain_tokenizer
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast
from worlds import make_vector

from duelenv import UserError
from duelenv.policies import CausalLMPolicy

WORDS = ["<pad>", "<bos>", "<eos>", *(f"w{number}" for number in range(3, VOCABULARY - 4)), "a", "b", ":", "<unk>"]
CHAT = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def words(*, before="", behind="", **special):
    """A tokenizer of words that puts tokens before or behind a text."""
    inner = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if before or behind:
        known = [(token, WORDS.index(token)) for token in (before, behind) if token]
        inner.post_processor = processors.TemplateProcessing(
            single=f"{before} $A {behind}".strip(), special_tokens=known
        )
    special = {"eos_token": "<eos>", "pad_token": "<pad>"} | special
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, **{name: token for name, token in special.items() if token is not None}
    )


def bytes_of():
    inner = Tokenizer(models.BPE({chr(33 + number): number for number in range(VOCABULARY)}, []))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="!", pad_token='"')


def padded_beyond():
    tokenizer = words(pad_token=None)
    tokenizer.add_special_tokens({"pad_token": AddedToken("[PAD]", special=True)})
    assert tokenizer.pad_token_id >= VOCABULARY
    return tokenizer


def policy_of(tokenizer, **settings):
    return CausalLMPolicy(model_of("llama"), tokenizer, max_new_tokens=4, **settings)


def ids_of(policy, prompt):
    """What is put before the responses to a prompt."""
    encoded = policy._codec.encode([prompt, "w5 w6 w7 w8 w9 w10 w11"], 4)
    return encoded.ids[0][encoded.attention[0] == 1].tolist()


W5, W6, BOS = 5, 6, 1
HABITS = {
    "plain": (words(), [W5, W6]),
    "a beginning": (words(before="<bos>", bos_token="<bos>"), [BOS, W5, W6]),
    "an end": (words(behind="<eos>"), [W5, W6]),
    "both": (words(before="<bos>", behind="<eos>", bos_token="<bos>"), [BOS, W5, W6]),
    "no padding": (words(pad_token=None), [W5, W6]),
    "padding is the end": (words(pad_token="<eos>"), [W5, W6]),
    "padding beyond the embeddings": (padded_beyond(), [W5, W6]),
    "pads on the right": (words(padding_side="right"), [W5, W6]),
    "cuts on the left": (words(truncation_side="left", model_max_length=1), [W5, W6]),
    "no end": (words(eos_token=None), [W5, W6]),
    "bytes": (bytes_of(), None),
}


@pytest.mark.parametrize("habit", HABITS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_prompt_is_its_own_tokens_whatever_its_tokenizer_does(habit):
    tokenizer, expected = HABITS[habit]
    policy = policy_of(tokenizer)
    if expected is not None:
        assert ids_of(policy, "w5 w6") == expected
    drawn = policy.sample(["w5 w6", "w7"], 2, uniforms=np.random.default_rng(0).random((2, 2, 4)))
    scored = policy.score(["w5 w6", "w7"], drawn.tokens, drawn.mask)
    np.testing.assert_allclose(scored, drawn.log_prob, atol=1e-4)
    alone = policy.score(["w7"], drawn.tokens[1:], drawn.mask[1:])
    np.testing.assert_allclose(alone, drawn.log_prob[1:], atol=1e-4)


def test_a_token_that_was_added_without_an_embedding_is_refused():
    tokenizer = words()
    tokenizer.add_tokens(["w500"])
    with pytest.raises(UserError, match=rf"prompt 1 holds the token 'w500' \({VOCABULARY}\), for which the model's"):
        policy_of(tokenizer).check_prompts(["w5", "w6 w500"])


def test_a_tokenizer_that_makes_nothing_of_a_text_is_not_the_models():
    """As where a folder's tokenizer is loaded as the class that its model usually has, and knows none of its words."""
    inner = Tokenizer(models.BPE({"q": 0, "z": 1}, []))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="q", pad_token="z")
    policy = policy_of(tokenizer)
    assert ids_of(policy_of(words(bos_token="<bos>")), "") == [BOS]
    with pytest.raises(UserError, match=r"makes no tokens of prompt 0, 'w5 w6'; give the tokenizer that the model was"):
        policy.check_prompts(["w5 w6"])


def test_an_end_that_a_prompt_itself_holds_stays():
    assert ids_of(policy_of(words(behind="<eos>")), "w5 <eos>") == [W5, 2]


def letters(*, unk=None, **post):
    """A tokenizer of capital letters, as of proteins, which knows no "a"."""
    known = ["<pad>", "<bos>", "<eos>", *"ABCDEFGH"]
    inner = Tokenizer(models.BPE({token: number for number, token in enumerate(known)}, [], unk_token=unk))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    single = " ".join(token for token in (post.get("before"), "$A", post.get("behind")) if token)
    added = [(token, known.index(token)) for token in post.values()]
    inner.post_processor = processors.TemplateProcessing(single=single, special_tokens=added)
    special = {"eos_token": "<eos>", "pad_token": "<pad>", "bos_token": post.get("before", "<bos>")}
    return PreTrainedTokenizerFast(tokenizer_object=inner, **special)


@pytest.mark.parametrize(
    ("tokenizer", "expected"),
    [
        (letters(before="<bos>"), [1, 3, 4]),
        (letters(before="<bos>", behind="<eos>"), [1, 3, 4]),
        (letters(behind="<eos>"), [3, 4]),
        (letters(unk="<eos>", before="<eos>"), [2, 3, 4]),  # one token for the beginning, the end and the unknown
        (letters(unk="<eos>", before="<eos>", behind="<eos>"), [2, 3, 4]),
    ],
)
def test_a_beginning_is_not_taken_for_an_end_where_a_probe_is_no_word(tokenizer, expected):
    assert policy_of(tokenizer)._codec.check(["AB"], 4) == [expected]


def test_a_beginning_alone_is_no_prompt_of_a_text():
    with pytest.raises(UserError, match="makes no tokens of prompt 0, 'xyz'"):
        policy_of(letters(before="<bos>")).check_prompts(["xyz"])


def test_a_tokenizer_that_raises_for_what_it_does_not_know_is_one_sentence():
    inner = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS[:9])}))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    policy = policy_of(PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<eos>", pad_token="<pad>"))
    assert policy._codec.check(["w5 w6"], 4) == [[W5, W6]]
    with pytest.raises(UserError, match="the tokenizer cannot read one of the texts 'w5 zz'"):
        policy.check_prompts(["w5 zz"])


def test_ends_and_responses_without_an_embedding():
    tokenizer = words(eos_token=None)
    tokenizer.add_special_tokens({"eos_token": "<|end|>"})
    policy = policy_of(tokenizer)
    assert policy.end_ids == (2,)  # the model's own; the other is never drawn
    tokens, mask = policy.tokens_of(np.array([["w5 w6"]], dtype=object))
    assert tokens.tolist() == [[[W5, W6, 2, policy._codec.pad_id]]] and mask.sum() == 3
    with pytest.raises(
        UserError, match=r"response 'w5 <\|end\|>' holds the token '<\|end\|>' .* embeddings have no row"
    ):
        policy.tokens_of(np.array([["w5 <|end|>"]], dtype=object))


# Dialogues -----------------------------------------------------------------------------------------------------------


TURNS = [("system", "w9"), ("user", "w5"), ("assistant", "w6"), ("user", "w7")]
OPENAI = [{"role": role, "content": content} for role, content in TURNS]
SHAREGPT = [
    {"from": {"user": "human", "assistant": "gpt"}.get(role, role), "value": content} for role, content in TURNS
]
PARTS = [{"role": role, "content": [{"type": "text", "text": content}]} for role, content in TURNS]
TEXT = "System: w9\n\nHuman: w5\n\nAssistant: w6\n\nHuman: w7\n\nAssistant:"


def with_template(template=CHAT):
    tokenizer = words(before="<bos>", bos_token="<bos>")
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("container", [OPENAI, SHAREGPT, PARTS, TEXT])
def test_one_dialogue_is_one_prompt_whatever_container_it_comes_in(container):
    policy = policy_of(with_template(), chat_template=True)
    shown = []
    tokenizer = policy.tokenizer
    render = tokenizer.apply_chat_template
    tokenizer.apply_chat_template = lambda messages, **rest: shown.append(render(messages, **rest)) or shown[-1]
    ids = ids_of(policy, container)
    assert shown[0] == "[system] w9 [user] w5 [assistant] w6 [user] w7 [assistant]"
    assert BOS not in ids  # the template writes what is special
    env = make_vector("duelenv/AlignmentDuel-v0", 2, policy=policy, prompts=[container], test_prompts=[container])
    assert env.reset(seed=0)[0]["prompt"].tolist() == [TEXT, TEXT]


def test_without_a_template_a_dialogue_is_its_text():
    policy = policy_of(words())
    assert ids_of(policy, OPENAI) == ids_of(policy, TEXT)
    assert ids_of(policy, [{"role": "user", "content": "w5"}]) == ids_of(policy, "w5") == [W5]


def test_a_plain_prompt_is_one_message_of_the_user():
    policy = policy_of(with_template(), chat_template=True)
    tokenizer = policy.tokenizer
    expected = tokenizer("[user] w5 [assistant]", add_special_tokens=False)["input_ids"]
    assert ids_of(policy, "w5") == expected


def test_a_template_is_told_its_settings(tmp_path):
    template = "{% for m in messages %}{{ m.content }} {% endfor %}{% if enable_thinking %}w90{% else %}w91{% endif %}"
    told = {"enable_thinking": True}
    policy = policy_of(with_template(template), chat_template=True, chat_template_kwargs=told)
    assert ids_of(policy, "w5") == [W5, 90]
    assert ids_of(policy_of(with_template(template), chat_template=True), "w5") == [W5, 91]
    policy.save(tmp_path)
    assert CausalLMPolicy.load(tmp_path).chat_template_kwargs == told
    loaded = CausalLMPolicy.from_pretrained(tmp_path, chat_template=True, chat_template_kwargs=told)
    assert ids_of(loaded, "w5") == [W5, 90]
    with pytest.raises(UserError, match="without a chat template; set chat_template=True"):
        policy_of(words(), chat_template_kwargs=told)


def test_a_folder_saved_before_there_were_such_settings_loads(tmp_path):
    policy_of(plain_tokenizer()).save(tmp_path)
    record = json.loads((tmp_path / "policy.json").read_text())
    del record["chat_template_kwargs"]
    (tmp_path / "policy.json").write_text(json.dumps(record))
    assert CausalLMPolicy.load(tmp_path).chat_template_kwargs == {}


ALTERNATING = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{{ m.content }} {% endfor %}"
)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (
            OPENAI,
            "the chat template refuses the prompt .* of the turns system, user, assistant, user .roles must alternate",
        ),
        ([{"role": "user", "content": "w5"}, {"role": "tool", "content": "42"}], "a turn of 'tool'"),
        ([{"role": "user"}], "a message without role and content"),
        ([{"role": "user", "content": [{"type": "image"}]}], "a content part of type 'image'"),
        (OPENAI[:3], "ends with the assistant's turn"),
        ([], r"prompt 0 is \[\], expected a string or a list of messages"),
        (7, "prompt 0 is 7, expected a string or a list of messages"),
        ("w5 \ud83d", "holds half of a surrogate pair, which is no text"),
        (" ".join(["w5"] * 200), "prompt 0 has 201 tokens|prompt 0 has 200 tokens"),
    ],
)
def test_a_prompt_that_cannot_be_is_one_sentence(prompt, message):
    policy = policy_of(with_template(ALTERNATING), chat_template=True)
    with pytest.raises(UserError, match=message) as caught:
        policy.check_prompts([prompt])
    assert "\n" not in str(caught.value)


def test_a_template_may_fail_as_it_likes_and_is_no_setting():
    policy = policy_of(with_template("{{ 1 / 0 }}"), chat_template=True)
    with pytest.raises(UserError, match=r"the chat template refuses the prompt 'w5' .* .division by zero"):
        policy.check_prompts(["w5"])
    with pytest.raises(UserError, match=r"chat_template is '.*', expected true or false"):
        policy_of(with_template(), chat_template="{{ messages }}")


def test_new_tokens_that_fill_the_context_leave_no_room_for_a_prompt():
    policy = CausalLMPolicy(model_of("llama"), words(), max_new_tokens=200)
    with pytest.raises(UserError, match=r"200 new tokens leave no room for a prompt \(the model's context, 128\)"):
        policy.check_prompts(["w5"])


def test_a_response_of_somebody_else_that_is_no_text_is_refused():
    with pytest.raises(UserError, match="holds half of a surrogate pair"):
        policy_of(words()).tokens_of(np.array([["w5", "w6 \ud83d"]], dtype=object))


def test_checking_many_prompts_with_one_long_pads_none_of_them():
    policy = CausalLMPolicy(model_of("llama", max_position_embeddings=5000), words(), max_new_tokens=4)
    prompts = [f"w{5 + number % 80}" for number in range(20_000)] + [" ".join(["w5"] * 4000)]
    tracemalloc.start()
    policy.check_prompts(prompts)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60e6  # padded, they were 1.3 GB
