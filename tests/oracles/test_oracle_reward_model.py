"""Reward models of transformers: batching, formats, loading; with tiny random models."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from duelenv.oracles import UserError, ask, make
from duelenv.oracles.text import BAD, GOOD

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from duelenv.oracles.reward_model import RewardModel  # noqa: E402

WORDS = ["<pad>", "<unk>", "<eos>", "<sep>", "<user>", "<assistant>", *GOOD, *BAD]
WORDS += "the a house is tell me about".split()
PROMPTS = ["tell me about the house"] * 5
RESPONSES = [
    "kind",
    "the house is kind fair wise and the house is rude",
    "",
    "a house",
    "dull " * 20,
]


def make_tokenizer(pad=True, pair=False):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if pair:
        inner.post_processor = processors.TemplateProcessing(
            single="$A <sep>",
            pair="$A <sep> $B:1 <sep>:1",
            special_tokens=[("<sep>", WORDS.index("<sep>"))],
        )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        unk_token="<unk>",
        eos_token="<eos>",
        **({"pad_token": "<pad>"} if pad else {}),
        model_input_names=["input_ids", "attention_mask", *(["token_type_ids"] if pair else [])],
    )
    tokenizer.chat_template = (
        "{% for message in messages %}<{{ message.role }}> {{ message.content }} <eos> {% endfor %}"
    )
    return tokenizer


def make_model(kind="llama", labels=1, pad=0):
    torch.manual_seed(0)
    common = {"vocab_size": len(WORDS), "num_labels": labels, "pad_token_id": pad}
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    if kind == "llama":
        config = transformers.LlamaConfig(**common, **sizes, intermediate_size=32, max_position_embeddings=64)
        model = transformers.LlamaForSequenceClassification(config)
    elif kind == "neox":
        config = transformers.GPTNeoXConfig(**common, **sizes, intermediate_size=32, max_position_embeddings=64)
        model = transformers.GPTNeoXForSequenceClassification(config)
    else:
        config = transformers.BertConfig(**common, **sizes, intermediate_size=32, max_position_embeddings=64)
        model = transformers.BertForSequenceClassification(config)
    for parameter in model.parameters():  # far from the near-zero start, so that scores differ
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def encoded_alone(model, tokenizer, text, **options):
    """The score of one sequence in its own forward pass, straight from transformers."""
    with torch.no_grad():
        return model.eval()(**tokenizer(text, return_tensors="pt", **options)).logits[0, 0].item()


@pytest.mark.parametrize("kind", ["llama", "neox", "bert"])
@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_batching_and_padding_do_not_change_scores(kind, batch_size):
    model, tokenizer = make_model(kind), make_tokenizer()
    oracle = RewardModel(model, tokenizer, batch_size=batch_size)
    scores = oracle.utility(PROMPTS, RESPONSES)
    assert scores.shape == (5,) and scores.dtype == np.float64
    alone = [encoded_alone(model, tokenizer, f"{p}\n\n{r}") for p, r in zip(PROMPTS, RESPONSES, strict=True)]
    assert_allclose(scores, alone, atol=1e-5)
    assert np.ptp(scores) > 0.01  # a thousand tolerances


def test_padding_side_of_the_tokenizer_does_not_matter():
    tokenizer = make_tokenizer()
    right = RewardModel(make_model(), tokenizer).utility(PROMPTS, RESPONSES)
    tokenizer.padding_side = "left"
    assert_array_equal(RewardModel(make_model(), tokenizer).utility(PROMPTS, RESPONSES), right)


def test_preferences_are_bradley_terry():
    oracle = RewardModel(make_model(), make_tokenizer())
    u = oracle.utility(PROMPTS, RESPONSES)
    answer = ask(oracle, PROMPTS[1:], RESPONSES[1:], RESPONSES[:-1])
    assert_allclose(answer.win, 1 / (1 + np.exp(u[:-1] - u[1:])), atol=1e-5)
    assert oracle.maximum(PROMPTS) is None


def test_evaluation_mode_and_no_gradient():
    model = make_model("bert").train()  # BERT's dropout would make scores random
    oracle = RewardModel(model, make_tokenizer())
    assert not model.training
    assert_array_equal(oracle.utility(PROMPTS, RESPONSES), oracle.utility(PROMPTS, RESPONSES))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_pair_format_uses_separators_and_token_types():
    model, tokenizer = make_model("bert"), make_tokenizer(pair=True)
    oracle = RewardModel(model, tokenizer, text="pair")
    encoded = oracle._encode("the house", "is kind")
    assert encoded["token_type_ids"] == [0, 0, 0, 1, 1, 1]
    with torch.no_grad():
        alone = model(**tokenizer("the house", "is kind", return_tensors="pt")).logits[0, 0].item()
    batched = oracle.utility(["the house"] * 2, ["is kind", "is kind kind kind kind"])
    assert_allclose(batched[0], alone, atol=1e-4)


def test_chat_format_uses_the_template_once():
    model, tokenizer = make_model(), make_tokenizer(pair=True)
    oracle = RewardModel(model, tokenizer, text="chat")
    ids = oracle._encode("the house", "is kind")["input_ids"]
    expected = "<user> the house <eos> <assistant> is kind <eos>".split()
    assert tokenizer.convert_ids_to_tokens(ids) == expected


def test_template_is_used_and_braces_in_texts_are_kept():
    tokenizer = make_tokenizer()
    oracle = RewardModel(make_model(), tokenizer, text="<user> {prompt} <assistant> {response}")
    ids = oracle._encode("tell {x}", "kind {response}")["input_ids"]
    expected = "<user> tell <unk> <assistant> kind <unk>".split()
    assert tokenizer.convert_ids_to_tokens(ids) == expected


def test_model_without_padding_token():
    model, tokenizer = make_model(pad=None), make_tokenizer(pad=False)
    with pytest.raises(UserError, match=r"no padding token.*batch_size to 1"):
        RewardModel(model, tokenizer)
    oracle = RewardModel(model, tokenizer, batch_size=1)
    alone = [encoded_alone(model, tokenizer, f"tell\n\n{r}") for r in ("kind", "rude house")]
    assert_allclose(oracle.utility(["tell"] * 2, ["kind", "rude house"]), alone, atol=1e-4)


def test_padding_token_comes_from_the_tokenizer():
    model = make_model(pad=None)
    scores = RewardModel(model, make_tokenizer()).utility(PROMPTS, RESPONSES)
    assert model.config.pad_token_id == 0
    assert_array_equal(scores, RewardModel(make_model(), make_tokenizer()).utility(PROMPTS, RESPONSES))


def test_too_long_is_refused_or_cut():
    long = "kind " * 80
    with pytest.raises(UserError, match="a sequence of 81 tokens, expected at most 64"):
        RewardModel(make_model(), make_tokenizer()).utility(["tell"], [long])
    with pytest.raises(UserError, match="expected at most 5"):
        RewardModel(make_model(), make_tokenizer(), max_length=5).utility(["tell"], ["kind " * 5])
    tokenizer = make_tokenizer()
    tokenizer.truncation_side = "left"
    cut = RewardModel(make_model(), tokenizer, max_length=5, truncate=True)
    assert_allclose(
        cut.utility(["tell"], ["kind " * 8]),
        RewardModel(make_model(), tokenizer, text="{prompt}{response}").utility([""], ["kind " * 5]),
        atol=1e-5,
    )


def test_no_duels_and_no_tokens():
    oracle = RewardModel(make_model(), make_tokenizer())
    assert oracle.utility([], []).shape == (0,)
    with pytest.raises(UserError, match="no tokens"):
        oracle.utility([""], [""])


def test_load_from_a_folder(tmp_path):
    model, tokenizer = make_model(), make_tokenizer()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    expected = RewardModel(model, tokenizer).utility(PROMPTS, RESPONSES)
    oracle = make("reward_model", path=str(tmp_path), device="cpu", batch_size=2)
    assert_allclose(oracle.utility(PROMPTS, RESPONSES), expected, atol=1e-4)
    half = make("reward_model", path=str(tmp_path), device="cpu", dtype="bfloat16")
    assert half.model.dtype == torch.bfloat16
    assert_allclose(half.utility(PROMPTS, RESPONSES), expected, atol=0.2 * np.ptp(expected) + 0.2)


def test_refusals(tmp_path):
    tokenizer = make_tokenizer()
    with pytest.raises(UserError, match="has 2 labels, expected 1"):
        RewardModel(make_model(labels=2), tokenizer)
    for text in ("{prompt} only", "{prompt} {response} {other}", "{prompt} {", "plain"):
        with pytest.raises(UserError, match="expected 'pair', 'chat' or a template"):
            RewardModel(make_model(), tokenizer, text=text)
    tokenizer.chat_template = None
    with pytest.raises(UserError, match="has no chat template"):
        RewardModel(make_model(), tokenizer, text="chat")
    with pytest.raises(UserError, match="batch_size is 0"):
        RewardModel(make_model(), tokenizer, batch_size=0)
    with pytest.raises(UserError, match="dtype is 'int8'"):
        make("reward_model", path=str(tmp_path), dtype="int8")
    with pytest.raises(UserError, match="cannot be loaded"):
        make("reward_model", path=str(tmp_path / "absent"))
