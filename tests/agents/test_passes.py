"""What of a batch goes through the model at once: limits that are set, what is foreseen, and what is said of it."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from worlds import make_vector, tiny_policy

import duelenv.agents
from duelenv import UserError
from duelenv.agents import trainer as trainer_module
from duelenv.agents.passes import Extent, in_pieces_of, in_pieces_that
from duelenv.agents.roles import Duels
from duelenv.agents.trainer import Trainer, TrainerSettings
from duelenv.policies.activations import Activations, PassSize

ROWS = 6


def sizes(parts):
    return [part.stop - part.start for part in parts]


def extent(prompts, lengths, responses=2):
    return Extent(np.array(prompts), np.array(lengths), responses)


def at_most(tokens, sharing=True):
    return lambda size: size.tokens(sharing) <= tokens


def test_items_are_measured_by_their_longest_response():
    mask = np.zeros((3, 2, 5), np.int8)
    mask[0, 0, :2] = mask[0, 1, :4] = mask[1, 1, 0] = 1
    found = Extent.of([7, 8, 9], mask)
    assert found.lengths.tolist() == [4, 1, 1]  # where nothing was said one token is run
    assert found.size(slice(0, 2)) == PassSize(2, 8, 2, 4)
    assert found.size(range(1, 3)).tokens(True) == 2 * (9 + 2) and found.size(range(1, 3)).tokens(False) == 2 * 2 * 10


def test_long_responses_make_small_pieces():
    found = extent([10] * 8, [5] * 4 + [45] * 4)
    assert sizes(in_pieces_that(at_most(200), found, 100)(range(8))) == [4, 2, 2]
    assert sizes(in_pieces_that(at_most(80), found, 100)(range(8))) == [4, 1, 1, 1, 1]  # one at least
    assert sizes(in_pieces_that(at_most(200), found, 3)(range(8))) == [2, 2, 2, 2]
    assert sizes(in_pieces_that(at_most(10_000), found, 100)(range(8))) == [8]


def test_padding_counts_and_pieces_are_equal_where_that_is_as_few():
    assert sizes(in_pieces_that(at_most(100), extent([10, 30, 10, 10, 10], [5] * 5), 100)(range(5))) == [2, 3]
    assert sizes(in_pieces_that(at_most(80), extent([10] * 6, [5] * 6), 100)(range(6))) == [3, 3]  # not 4 and 2


def test_a_share_that_begins_anywhere_may_be_empty():
    found = extent([10] * 9, [5] * 9)
    for cut in (in_pieces_of(2), in_pieces_that(at_most(40), found, 100)):
        assert cut(range(3, 8)) == [slice(3, 5), slice(5, 7), slice(7, 8)]
        assert cut(range(4, 4)) == []


# In a trainer --------------------------------------------------------------------------------------------------------


def taught(steps=2, **settings):
    """Gradients and figures of steps on six pairs, and how many prompts went into each pass with the policy."""
    env = make_vector("duelenv/AlignmentDuel-v0", ROWS, policy=tiny_policy(max_new_tokens=8), num_candidates=3)
    observation, _ = env.reset(seed=3)
    name = settings.pop("agent", "passive")
    learner = duelenv.agents.make(name, env, seed=1, gradient_steps=steps, max_grad_norm=None, **settings).learner
    sizes_seen, gradients = [], []
    step = learner.trainer._optimizer.step

    def stepped():
        gradients.extend(weights.grad.flatten().clone() for weights in learner.policy.parameters())
        step()

    learner.trainer._optimizer.step = stepped
    log_prob = learner.policy.log_prob

    def watched(prompts, tokens, mask):
        sizes_seen.append(len(prompts))
        return log_prob(prompts, tokens, mask)

    learner.policy.log_prob = watched
    duels = Duels(np.arange(ROWS), np.array([[0, 1], [1, 2], [2, 0], [0, 1], [1, 0], [2, 1]]), np.ones(ROWS))
    figures = learner.teach(observation, duels)
    return torch.cat(gradients), figures, sizes_seen


def little_room(monkeypatch, share):
    """As much memory as a share of the whole batch needs, besides gradients and moments."""
    monkeypatch.setattr(trainer_module, "_SMALL", 0)
    trainer = Trainer(tiny_policy(), TrainerSettings())
    whole = Activations.of(trainer.policy.model, trainer.policy.shortcuts).bytes(PassSize(ROWS, 5, 2, 8))
    free = (trainer._beside() + share * whole) / trainer_module._TAKEN
    monkeypatch.setattr(trainer_module, "free_bytes", lambda device: int(free))


@pytest.mark.parametrize("loss", ["dpo", "kto"])
def test_pieces_of_few_tokens_add_up_to_the_whole_batch(loss):
    whole, figures, seen = taught(loss=loss)
    assert set(seen) == {ROWS}
    for tokens, expected in ((50, 2), (1, 1)):
        cut, again, seen = taught(loss=loss, max_tokens=tokens)
        assert max(seen) == expected and seen.count(expected) > 2
        torch.testing.assert_close(cut, whole, rtol=1e-3, atol=1e-5)
        assert again == pytest.approx(figures, rel=1e-4)


def test_both_limits_hold():
    assert set(taught(max_tokens=10_000, micro_batch=2)[2]) == {2}
    assert set(taught(max_tokens=50, micro_batch=5)[2]) == {2}


def test_a_batch_that_would_not_fit_is_split_and_that_is_said_once(monkeypatch, caplog):
    whole, figures, _ = taught()
    little_room(monkeypatch, 0.6)
    with caplog.at_level(logging.WARNING, "duelenv.agents.trainer"):
        cut, again, seen = taught()
    assert set(seen) == {3}
    (record,) = caplog.records
    assert "a batch of 6 pairs would take about" in record.message
    assert "are free: it is split into 2 pieces of 3; set micro_batch or max_tokens" in record.message
    torch.testing.assert_close(cut, whole, rtol=1e-3, atol=1e-5)
    assert again == pytest.approx(figures, rel=1e-4)


def test_a_policy_at_its_reference_has_log_ratio_zero_in_the_pieces_that_are_foreseen(monkeypatch):
    little_room(monkeypatch, 0.3)
    _, figures, seen = taught(steps=1)
    assert max(seen) == 1
    assert figures["loss"] == pytest.approx(np.log(2), abs=1e-7)


def test_no_room_at_all_is_one_pair_at_a_time(monkeypatch):
    monkeypatch.setattr(trainer_module, "_SMALL", 0)
    monkeypatch.setattr(trainer_module, "free_bytes", lambda device: 0)
    assert set(taught()[2]) == {1}


@pytest.mark.parametrize("settings", [{"micro_batch": 4}, {"max_tokens": 10_000}])
def test_what_is_set_is_not_foreseen(monkeypatch, settings):
    monkeypatch.setattr(trainer_module, "_SMALL", 0)
    monkeypatch.setattr(trainer_module, "free_bytes", lambda device: 0)
    assert max(taught(**settings)[2]) > 1


def test_a_device_of_which_nobody_knows_takes_all_at_once(monkeypatch):
    monkeypatch.setattr(trainer_module, "_SMALL", 0)
    monkeypatch.setattr(trainer_module, "free_bytes", lambda device: None)
    assert set(taught()[2]) == {ROWS}


def test_a_small_batch_does_not_ask_what_is_free(monkeypatch):
    monkeypatch.setattr(trainer_module, "free_bytes", lambda device: pytest.fail("asked"))
    assert set(taught()[2]) == {ROWS}


def test_the_state_of_the_optimiser_is_counted_until_it_is_there():
    trainer = Trainer(tiny_policy(), TrainerSettings(learning_rate=0.01))
    weights = sum(weights.numel() for weights in trainer.policy.parameters())
    assert trainer._beside() == 3 * 4 * weights
    trainer.train(lambda: [sum(one.sum() for one in trainer.policy.parameters())], 1)
    assert trainer._beside() == 4 * weights


def test_a_limit_below_one_token_is_refused():
    with pytest.raises(UserError, match="max_tokens is 0"):
        TrainerSettings(max_tokens=0)
