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
    for batch_size in (1, 2):
        oracle = RewardModel(model, tokenizer, batch_size=batch_size)
        alone = [encoded_alone(model, tokenizer, f"tell\n\n{r}") for r in ("kind", "rude house")]
        assert_allclose(oracle.utility(["tell"] * 2, ["kind", "rude house"]), alone, atol=1e-4)
    assert model.config.pad_token_id is None  # as it was


def test_padding_token_comes_from_the_tokenizer():
    scores = RewardModel(make_model(pad=None), make_tokenizer()).utility(PROMPTS, RESPONSES)
    assert_array_equal(scores, RewardModel(make_model(), make_tokenizer()).utility(PROMPTS, RESPONSES))


# Habits --------------------------------------------------------------------------------------------------------------

FAMILIES = [
    "llama",
    "qwen2",
    "mistral",
    "gpt2",
    "gpt_neox",
    "opt",
    "bert",
    "roberta",
    "electra",
    "phi3",
    "gemma",
    "falcon",
]
EOS = WORDS.index("<eos>")


def family(name, *, labels=1, pad=0):
    """A tiny classifier of a family; its scores are far from each other."""
    from families import config_of

    settings = {"is_decoder": False} if name in ("bert", "roberta", "electra") else {}
    config = config_of(name, num_labels=labels, vocab_size=len(WORDS), pad_token_id=pad, eos_token_id=EOS, **settings)
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_config(config).float().eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.4)
    return model


def last_token_score(model, tokenizer, text, place=0):
    """The score at the last token of one sequence, whatever transformers takes for padding."""
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    config = model.config.get_text_config()
    pad, config.pad_token_id = config.pad_token_id, None
    with torch.no_grad():
        score = model(input_ids=ids).logits[0, place].item()
    config.pad_token_id = pad
    return score


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("habit", ["own pad", "pad is the end", "no pad", "left", "several ends"])
def test_a_text_has_one_score_whatever_its_model_pads_with(name, habit):
    if name == "roberta" and habit in ("pad is the end", "no pad"):
        pytest.skip(
            "RoBERTa gives the token of its padding no position, so that it can be no token of a text, nor none"
        )
    pad = {"pad is the end": EOS, "no pad": None}.get(habit, 0)
    model, tokenizer = family(name, pad=pad), make_tokenizer(pad=habit != "no pad")
    if habit == "pad is the end":
        tokenizer.pad_token = "<eos>"
    if habit == "left":
        tokenizer.padding_side = "left"
    responses = [
        "kind <eos>",
        "the house is kind fair wise and the house is rude <eos>",
        "a house",
        "dull dull <eos> <eos>",
    ]
    if habit == "several ends":
        model.config.get_text_config().eos_token_id = [EOS, EOS + 1]
    oracle = RewardModel(model, tokenizer)
    scores = oracle.utility(["tell"] * 4, responses)
    alone = [last_token_score(model, tokenizer, f"tell\n\n{response}") for response in responses]
    assert_allclose(scores, alone, atol=2e-4)
    assert np.ptp(scores) > 0.01
    assert model.config.get_text_config().pad_token_id == pad


def test_a_batch_that_holds_every_token_is_scored_one_by_one():
    model, tokenizer = make_model(pad=None), make_tokenizer(pad=False)
    everything = " ".join(WORDS)
    scores = RewardModel(model, tokenizer).utility(["tell"] * 2, [everything, "kind"])
    alone = [last_token_score(model, tokenizer, f"tell\n\n{text}") for text in (everything, "kind")]
    assert_allclose(scores, alone, atol=1e-4)


def test_one_of_several_labels_is_the_utility_or_the_difference_of_two():
    model, tokenizer = family("llama", labels=3), make_tokenizer()
    model.config.id2label = {0: "bad", 1: "good", 2: "odd"}
    texts = ["kind", "rude house"]
    logits = np.array(
        [[last_token_score(model, tokenizer, f"tell\n\n{t}", place) for place in range(3)] for t in texts]
    )
    for label, expected in (
        ("good", logits[:, 1]),
        (2, logits[:, 2]),
        (["good", "bad"], logits[:, 1] - logits[:, 0]),
        ([0, 1], logits[:, 0] - logits[:, 1]),
    ):
        assert_allclose(RewardModel(model, tokenizer, label=label).utility(["tell"] * 2, texts), expected, atol=1e-4)
    for label, message in (
        (None, r"has 3 labels \(bad, good, odd\), and the utility is one of their logits; choose it with label="),
        ("best", "label is 'best', expected one of bad, good, odd, or its index below 3"),
        (3, "label is 3, expected one of"),
        (True, "label is True, expected one of"),
        (["good", "good"], "expected one label or two different ones"),
    ):
        with pytest.raises(UserError, match=message):
            RewardModel(model, tokenizer, label=label)


def test_keys_with_a_prefix_are_told_in_one_sentence(tmp_path, capfd):
    from safetensors.torch import load_file, save_file

    make_model().save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    save_file({f"_orig_mod.{key}": value for key, value in load_file(path).items()}, path, metadata={"format": "pt"})
    capfd.readouterr()
    with pytest.raises(UserError, match=r"has _orig_mod\.\S+, .* without a prefix such as '_orig_mod\.'"):
        make("reward_model", path=str(tmp_path))
    assert "LOAD REPORT" not in capfd.readouterr().err


def test_a_head_that_nobody_trained_is_not_drawn(tmp_path):
    """Three loads were three utilities."""
    model = family("llama")
    transformers.LlamaForCausalLM(model.config).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(
        UserError, match=r"lacks score\.weight and has lm_head\.weight besides, .* random weights there"
    ):
        make("reward_model", path=str(tmp_path))


def test_code_that_comes_with_a_model_is_not_run_and_not_asked_about(tmp_path, monkeypatch):
    import json

    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked at the terminal"))
    (tmp_path / "own.py").write_text("raise SystemExit('a stranger ran')")
    own = {"AutoConfig": "own.Config", "AutoModelForSequenceClassification": "own.Model"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": own}))
    make_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="cannot be loaded"):
        make("reward_model", path=str(tmp_path))


def test_positions_that_are_fewer_than_the_config_says():
    """RoBERTa's positions begin behind that of its padding."""
    model, tokenizer = family("roberta"), make_tokenizer()
    most = model.config.max_position_embeddings - 1
    fits = " ".join(["kind"] * (most - 1))
    assert np.isfinite(RewardModel(model, tokenizer).utility(["tell"], [fits])).all()
    with pytest.raises(UserError, match=f"a sequence of {most + 1} tokens, expected at most {most}"):
        RewardModel(model, tokenizer).utility(["tell"], [fits + " kind"])


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
    with pytest.raises(UserError, match="has 2 labels"):
        RewardModel(make_model(labels=2), tokenizer)
    for text in ("{prompt} only", "{prompt} {response} {other}", "{prompt} {", "plain"):
        with pytest.raises(UserError, match="expected 'pair', 'chat' or a template"):
            RewardModel(make_model(), tokenizer, text=text)
    tokenizer.chat_template = None
    with pytest.raises(UserError, match="has no chat template"):
        RewardModel(make_model(), tokenizer, text="chat")
    with pytest.raises(UserError, match="batch_size is 0"):
        RewardModel(make_model(), tokenizer, batch_size=0)
    with pytest.raises(UserError, match="dtype='int8' is unknown: choose from bfloat16, float16, float32"):
        make("reward_model", path=str(tmp_path), dtype="int8")
    with pytest.raises(UserError, match="cannot be loaded"):
        make("reward_model", path=str(tmp_path / "absent"))


def test_half_a_surrogate_pair_and_a_device_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="holds half of a surrogate pair"):
        RewardModel(make_model(), make_tokenizer()).utility(["tell"], ["kind \ud83d"])
    make_model().save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="device is 'cuda:9', which is not there"):
        make("reward_model", path=str(tmp_path), device="cuda:9")


def test_a_dialogue_is_its_turns_in_the_chat_template():
    shown = []
    tokenizer = make_tokenizer()
    render = tokenizer.apply_chat_template
    tokenizer.apply_chat_template = lambda turns, **rest: shown.append(render(turns, **rest)) or shown[-1]
    RewardModel(make_model(), tokenizer, text="chat").utility(
        ["Human: tell\n\nAssistant: a\n\nHuman: is\n\nAssistant:"], ["kind"]
    )
    assert shown[0].split() == "<user> tell <eos> <assistant> a <eos> <user> is <eos> <assistant> kind <eos>".split()


DIALOGUE = [
    {"role": "system", "content": "a"},
    {"role": "user", "content": "tell"},
    {"role": "assistant", "content": "is"},
    {"role": "user", "content": "house"},
]


@pytest.mark.parametrize("text", ["chat", "{prompt} {response}"])
def test_messages_are_their_dialogue_and_what_is_no_text_is_refused(text):
    oracle = RewardModel(make_model(), make_tokenizer(), text=text)
    written = "System: a\n\nHuman: tell\n\nAssistant: is\n\nHuman: house\n\nAssistant:"
    assert_array_equal(oracle.utility([DIALOGUE], ["kind"]), oracle.utility([written], ["kind"]))
    for prompt, response, message in (
        ([*DIALOGUE, {"role": "tool", "content": "42"}], "kind", "a turn of 'tool'"),
        (7, "kind", "prompt 0 is 7, expected a string or a list of messages"),
        ("tell", DIALOGUE, "expected a string; correct it"),
    ):
        with pytest.raises(UserError, match=message):
            oracle.utility([prompt], [response])


@pytest.mark.parametrize("kind", ["XLNet", "ConvBert", "FNet"])
def test_a_model_that_counts_padding_in_scores_one_by_one(kind):
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=64,
        d_inner=64,
        embedding_size=32,
        num_labels=1,
        d_head=8,
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_config(config).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    oracle = RewardModel(model, make_tokenizer())
    alone = [oracle.utility([prompt], [text])[0] for prompt, text in zip(PROMPTS, RESPONSES, strict=True)]
    assert_allclose(oracle.utility(PROMPTS, RESPONSES), alone, atol=1e-5)


def test_a_utility_that_is_no_number_does_not_pass_for_declining():
    model = make_model()
    model.score.weight.data[0, 0] = float("nan")
    with pytest.raises(UserError, match=r"gives response 'kind' the utility nan in torch\.float32"):
        ask(RewardModel(model, make_tokenizer()), ["tell"], ["kind"], ["rude"])


def test_what_a_model_or_its_template_raises_is_one_sentence(tmp_path):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(
        UserError, match=r"chat template refuses the prompt 'tell' of the turns user, assistant \(.*roles"
    ):
        RewardModel(make_model(), tokenizer, text="chat").utility(["tell"], ["kind"])
    with pytest.raises(UserError, match="truncate is 'yes', expected true or false"):
        RewardModel(make_model(), make_tokenizer(), truncate="yes")
    with pytest.raises(UserError, match="which is one label twice"):
        RewardModel(make_model(labels=2), make_tokenizer(), label=[0, "LABEL_0"])
    make_model().save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(UserError, match="cannot be loaded"):
        make("reward_model", path=str(tmp_path))
    model = make_model()
    model.forward = lambda **inputs: {}["pixel_values"]
    with pytest.raises(UserError, match=r"could not be run on token ids alone \(KeyError: 'pixel_values'\)"):
        RewardModel(model, make_tokenizer())
