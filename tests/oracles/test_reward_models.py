"""Populations of utilities: means, draws by the pair, disagreement; by hand, and with tiny models from folders."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from duelenv.oracles import Preferences, Unanswered, UserError, UtilityOracle, ask, make
from duelenv.oracles.reward_models import RewardModels
from duelenv.oracles.sources import is_free

PROMPTS = ["p"] * 3
FIRST, SECOND = ["x", "x", "y"], ["y", "z", "z"]


class Table(UtilityOracle):
    """Utilities of letters, in the order x, y, z; counts what it is asked."""

    def __init__(self, *values, link="logistic"):
        self.values, self.link, self.asked = dict(zip("xyz", values, strict=True)), link, 0

    def utility(self, prompts, responses):
        self.asked += len(responses)
        return np.array([self.values[response[0]] for response in responses])


def logistic(difference):
    return 1 / (1 + np.exp(-difference))


def test_the_mean_of_preferences_and_their_standard_deviation():
    population = RewardModels([Table(2, 0, 1), Table(0, 3, 0)], weights=[3, 1])
    each = np.array([logistic(np.array([2.0, 1, -1])), logistic(np.array([-3.0, 0, 3]))])
    mean = 0.75 * each[0] + 0.25 * each[1]
    assert_allclose(ask(population, PROMPTS, FIRST, SECOND).win, mean)
    assert_allclose(ask(population, PROMPTS, SECOND, FIRST).win, 1 - mean)
    assert_allclose(population.preferences(PROMPTS, FIRST, SECOND), each)
    # Of two values a and b with weights w and 1 - w: sqrt(w (1 - w)) |a - b|.
    expected = np.sqrt(0.75 * 0.25) * np.abs(each[0] - each[1])
    assert_allclose(population.disagreement(PROMPTS, FIRST, SECOND), expected)
    assert_allclose(RewardModels([Table(2, 0, 1)] * 2).disagreement(PROMPTS, FIRST, SECOND), 0, atol=1e-12)


def test_a_population_of_utilities_may_be_cyclic():
    # Condorcet: x > y > z, y > z > x, z > x > y.
    population = RewardModels([Table(2, 1, 0), Table(0, 2, 1), Table(1, 0, 2)])
    x_y, x_z, y_z = ask(population, PROMPTS, FIRST, SECOND).win
    assert x_y > 0.5 and y_z > 0.5 and x_z < 0.5


def test_members_keep_their_links():
    member = Table(2, 0, 1, link="probit")
    assert_allclose(RewardModels([member])(PROMPTS, FIRST, SECOND), member(PROMPTS, FIRST, SECOND))


def test_a_sampled_annotator_is_the_pairs_own():
    members = [Table(2, 0, 1), Table(0, 3, 0)]
    population = RewardModels(members, weights=[3, 1], annotator="sampled", seed=5)
    prompts = [f"p{number}" for number in range(4000)]
    first, second = ["x"] * 4000, ["y"] * 4000
    judges = population.judges(prompts, first, second)
    assert_array_equal(judges, population.judges(prompts, second, first))
    assert_array_equal(judges[::-1], population.judges(prompts[::-1], first, second))
    assert abs(judges.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 4000)
    other = RewardModels(members, weights=[3, 1], annotator="sampled", seed=6).judges(prompts, first, second)
    assert abs((judges == other).mean() - (0.75**2 + 0.25**2)) < 0.04
    win = ask(population, prompts, first, second).win
    assert_allclose(win, logistic(np.where(judges == 0, 2.0, -3.0)))
    assert_allclose(ask(population, prompts, second, first).win, 1 - win)
    # A member is asked about its own pairs only: two responses each.
    assert sum(member.asked for member in members) == 2 * 2 * 4000


def test_the_draw_is_the_same_on_every_machine():
    population = RewardModels([Table(0, 0, 0)] * 4, annotator="sampled", seed=1)
    assert population.judges(["p", "q", "r", "s"], ["x"] * 4, ["y"] * 4).tolist() == [1, 0, 2, 0]


def test_what_one_member_said_is_not_what_the_population_says():
    class Down(Table):
        def preference(self, prompts, first, second, *, temperature=1.0):
            win = np.full(len(first), 0.9)
            raise Unanswered("down", Preferences(win, win * 0), np.ones(len(first), dtype=bool))

    with pytest.raises(Unanswered, match="down") as caught:
        ask(RewardModels([Table(2, 0, 1), Down(0, 0, 0)]), PROMPTS, FIRST, SECOND)
    assert not caught.value.answered.any()


def test_a_population_is_free_if_all_its_members_are():
    dear = Table(0, 0, 0)
    dear.free = False
    assert is_free(RewardModels([Table(0, 0, 0)])) and not is_free(RewardModels([Table(0, 0, 0), dear]))
    assert not is_free(lambda *duels: [0.5])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": [1]}, "expected 2 numbers of at least 0"),
        ({"weights": [1, -1]}, "expected 2 numbers of at least 0"),
        ({"weights": [0, 0]}, "not all 0"),
        ({"weights": [1, float("nan")]}, "expected 2 numbers"),
        ({"annotator": "random"}, "choose from mean, sampled"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_settings_are_refused_in_a_sentence(settings, message):
    with pytest.raises(UserError, match=message):
        RewardModels([Table(0, 0, 0)] * 2, **settings)
    with pytest.raises(UserError, match="no members"):
        RewardModels([])


# Models of folders ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two tiny classifiers with one tokenizer."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<pad>", "<unk>", "tell", "kind", "rude", "dull"]
    inner = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", pad_token="<pad>")
    paths = []
    for seed in range(2):
        torch.manual_seed(seed)
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        config = transformers.LlamaConfig(
            **sizes, vocab_size=len(words), num_labels=1, pad_token_id=0, max_position_embeddings=32
        )
        model = transformers.LlamaForSequenceClassification(config)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        paths.append(str(tmp_path_factory.mktemp("member")))
        model.save_pretrained(paths[-1])
        tokenizer.save_pretrained(paths[-1])
    return paths


DUELS = (["tell"] * 3, ["kind", "rude", "kind dull"], ["rude", "dull", "kind"])


def test_members_are_loaded_with_common_and_own_settings(folders):
    text = "{response} {prompt}"
    own = {"path": folders[1], "text": text, "device": "cpu"}
    population = make("reward_models", members=[folders[0], own], common={"device": "cpu", "batch_size": 2})
    one = make("reward_model", path=folders[0], device="cpu")
    two = make("reward_model", path=folders[1], device="cpu", text=text)
    assert [member._classifier._batch_size for member in population.members] == [2, 2]
    win = ask(population, *DUELS).win
    assert_allclose(win, (one(*DUELS) + two(*DUELS)) / 2, atol=1e-6)
    assert np.abs(one(*DUELS) - two(*DUELS)).max() > 1e-3
    noisy = ask(make("reward_models", members=folders, common={"device": "cpu"}, noise=0.5), *DUELS).win
    assert_allclose(noisy, 0.5)
    for members, message in (
        ("path", "expected a list of paths"),
        ([{"path": folders[0], "noise": 0.1}], "settings of a wrapper"),
        ([7], r"members\[0\] is 7"),
    ):
        with pytest.raises(UserError, match=message):
            make("reward_models", members=members, common={"device": "cpu"})


def test_a_ranker_reads_both_orders_and_takes_half_their_difference(folders):
    ranker = make("pairwise_ranker", path=folders[0], device="cpu", text="{prompt} {first} {second}", batch_size=2)
    model = make("reward_model", path=folders[0], device="cpu", text="{prompt} {response}")
    prompts, first, second = DUELS
    there = model.utility(prompts, [f"{a} {b}" for a, b in zip(first, second, strict=True)])
    back = model.utility(prompts, [f"{b} {a}" for a, b in zip(first, second, strict=True)])
    assert_allclose(ranker.scores(*DUELS), there, atol=1e-5)
    win = ask(ranker, *DUELS).win
    assert_allclose(win, logistic((there - back) / 2), atol=1e-5)
    assert_allclose(ask(ranker, prompts, second, first).win, 1 - win, atol=1e-6)
    assert_allclose(ask(ranker, ["tell"], ["kind"], ["kind"]).win, 0.5)
    assert np.abs(there + back).max() > 1e-2  # else one order would do
    given = make("pairwise_ranker", path=folders[0], device="cpu", text="{prompt} {first} {second}", orders="given")
    assert_allclose(ask(given, *DUELS).win, logistic(there), atol=1e-5)
    assert is_free(ranker)


def test_what_a_ranker_refuses(folders):
    for settings, message in (
        ({"text": "{prompt} {first}"}, r"a template with \{prompt\}, \{first\} and \{second\}"),
        ({"orders": "one"}, "choose from both, given"),
        ({"link": "x"}, "link 'x' is unknown"),
    ):
        with pytest.raises(UserError, match=message):
            make("pairwise_ranker", path=folders[0], device="cpu", **settings)
    ranker = make("pairwise_ranker", path=folders[0], device="cpu")
    for response, message in ((7, "expected a string"), ("\ud83d", "surrogate"), ("kind " * 40, "expected at most 32")):
        with pytest.raises(UserError, match=message):
            ask(ranker, ["tell"], ["kind"], [response])
