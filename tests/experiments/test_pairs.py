"""What `duelenv pairs` says of a table: agreement that is what its name says, by a belief that never saw the pairs."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from duelenv import UserError
from duelenv.data import Pairs
from duelenv.experiments.cli import main
from duelenv.experiments.pairs import Share, belief_agreement, length_agreement, oracle_agreement

WORDS = ("tree", "house", "river", "stone")


def made(count=120, *, margins=None, flipped=()):
    """Pairs whose chosen response ends in a mark of exclamation, but for those that are flipped."""
    texts = [(f"so {WORDS[n % 4]} it is, no {n}!", f"so {WORDS[n % 3]} it is, no {n}.") for n in range(count)]
    texts = [pair[::-1] if n in flipped else pair for n, pair in enumerate(texts)]
    rows = np.arange(count)
    prompts = tuple(f"prompt {n // 2}" for n in range(count))  # two pairs of each
    return Pairs(prompts, *map(tuple, zip(*texts, strict=True)), margins=margins, rows=rows, num_rows=count)


def test_a_share_counts_pairs_of_one_prompt_as_one_draw():
    values = np.array([1.0, 1.0, 0.0, 0.0, 1.0, 1.0])
    share = Share.of(values, np.array([0, 0, 1, 1, 2, 2]))
    means = np.array([1.0, 0.0, 1.0])  # clusters of one size: the interval of their means
    assert share.mean == pytest.approx(2 / 3)
    assert share.half_width == pytest.approx(stats.t.ppf(0.975, 2) * stats.sem(means))
    assert np.isnan(Share.of(values, np.zeros(6, np.int64)).half_width)


def test_an_oracle_gains_nothing_by_preferring_a_position():
    pairs = made(400)
    first = oracle_agreement(pairs, lambda prompts, first, second: np.ones(len(prompts)))
    assert abs(first.accuracy.mean - 0.5) < 0.1
    knows = oracle_agreement(pairs, lambda prompts, first, second: [0.8 if text[-1] == "!" else 0.2 for text in first])
    assert knows.accuracy.mean == 1.0 and knows.log_loss.mean == pytest.approx(-np.log(0.8))


def test_what_is_declined_tied_or_undecided_is_counted_for_what_it_is():
    margins = np.array([1.0, 0.0, 2.0, 1.0])
    asked = []

    def oracle(prompts, first, second):
        asked.extend(prompts)
        return [np.nan if "no 2" in text else 0.5 if "no 3" in text else float(text[-1] == "!") for text in first]

    agreement = oracle_agreement(made(4, margins=margins), oracle)
    assert len(asked) == 3  # the tie is nobody's choice
    assert (agreement.accuracy.mean, agreement.unanswered) == (0.75, 1)
    with pytest.raises(UserError, match="no pair was both decided and answered"):
        oracle_agreement(made(4, margins=np.zeros(4)), oracle)
    voted = Pairs(("p", "q"), ("a!", "b!"), ("a", "b"), rows=np.arange(2), num_rows=2, labels=np.array([0.5, 0.75]))
    assert length_agreement(voted).accuracy.mean == 1.0 and np.isnan(length_agreement(voted).accuracy.half_width)
    longer = Pairs(("p", "p", "q"), ("ab", "a", "a"), ("a", "ab", "b"), rows=np.arange(3), num_rows=3)
    assert length_agreement(longer).accuracy.mean == 0.5 and length_agreement(longer).log_loss is None


@pytest.mark.parametrize("belief", ["linear_logistic", {"name": "laplace"}])
def test_a_belief_learns_from_other_pairs_what_holds_for_these(belief):
    agreement = belief_agreement(made(), belief, dim=20)
    assert agreement.accuracy.mean > 0.95
    assert agreement.log_loss.mean < 0.5


def test_a_belief_is_not_shown_what_it_judges():
    """With noise for choices there is nothing to learn, whatever is remembered of the pairs themselves."""
    count = 300
    flipped = set(np.flatnonzero(np.random.default_rng(0).random(count) < 0.5).tolist())
    pairs = made(count, flipped=flipped)
    features = np.random.default_rng(1).normal(size=(count, 2, 40))
    agreement = belief_agreement(pairs, "linear_logistic", features=features)
    assert abs(agreement.accuracy.mean - 0.5) < 0.1


def test_pairs_of_one_prompt_stand_on_one_side():
    """Each prompt's two pairs are opposite: to have seen the one is to be wrong, or right, about the other."""
    count = 200
    features = np.repeat(np.eye(count // 2), 2, axis=0)[:, np.newaxis] * np.array([[[0.5], [-0.5]]])
    agreement = belief_agreement(made(count), "linear_logistic", features=features)
    assert agreement.accuracy.mean == 0.5  # of a prompt that nobody has seen nothing is known


def test_too_few_prompts_for_the_parts_get_one_sentence():
    with pytest.raises(UserError, match="have 2 different prompts, expected at least 5"):
        belief_agreement(made(4), "linear_logistic")
    with pytest.raises(UserError, match="'depth'"):
        belief_agreement(made(20), {"name": "linear_logistic", "depth": 2})


def test_the_command_says_what_the_pairs_are_and_what_they_are_good_for(tmp_path, capsys):
    path = tmp_path / "pairs.jsonl"
    rows = [{"question": f"q {n}", "chosen": f"good {n} long", "rejected": f"bad {n}"} for n in range(60)]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0] | {"chosen": ""}]))
    words = [
        "pairs",
        str(path),
        "empty=drop",
        "oracle.name=length",
        "oracle.target=10",
        "belief=linear_logistic",
        "dim=8",
    ]
    assert main(words) == 0
    said = capsys.readouterr()
    assert not said.err
    for sentence in (
        "60 pairs, 60 different prompts",
        "prompt from question; chosen and rejected from chosen+rejected",
        "1 of 61 pairs dropped for an empty response",
        "longer response           1.000",
        "length                    ",
        "linear_logistic, held out 1.000",
        f"labels={path}",
        "the same margin of 3",
    ):
        assert sentence in said.out.replace("\n    ", " "), sentence
    assert main(["pairs", str(path), "empty=drop", "parts=1"]) == 2
    assert "parts is 1" in capsys.readouterr().err
    assert main(["pairs", str(path), "oracle.=3"]) == 2
    assert main(["pairs", str(path), "empty=drop", "oracle={kind: x}"]) == 2
    assert "expected a name" in capsys.readouterr().err
