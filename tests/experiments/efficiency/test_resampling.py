"""The comparison of two arms: what it finds, what it does not, and that it is right as often as it says."""

import numpy as np
import pytest

from duelenv.experiments.efficiency.resampling import Arm, compare, share_reaching
from duelenv.experiments.efficiency.verdicts import FEWER, MORE, NOT_SHOWN, null_check, verdicts
from duelenv.experiments.tables.statistics import holm

LABELS = np.arange(0, 481, 20.0)


def arm(seeds: int, generator: np.random.Generator, speed: float = 1.0, top: float = 0.95, end: float = 480) -> Arm:
    """Learning curves from .5 to `top`, half-way after about 100 labels, each seed early or late by some."""
    labels = LABELS[LABELS <= end]
    middle = generator.normal(100, 30, size=(seeds, 1))
    height = 0.5 + (top - 0.5) / (1 + np.exp(-(speed * labels - middle) / 20))
    height += generator.normal(0, 0.02, height.shape)
    height[:, 0] = 0.5
    kl = np.broadcast_to(labels / 10, height.shape)
    return Arm(labels, height, kl, (1 - height).cumsum(axis=1))


def constant(value: float, crossing: float) -> Arm:
    """Twelve seeds that rise by steps from .5 to `value`, being there at `crossing`; nothing is random."""
    height = np.where(LABELS >= crossing, value, 0.5)[np.newaxis].repeat(12, axis=0)
    return Arm(LABELS, height, LABELS[np.newaxis].repeat(12, axis=0), np.zeros_like(height))


def test_without_noise_the_log_ratio_is_that_of_the_crossings():
    found = compare(constant(0.96, 60), constant(1.0, 120), 240, draws=500)
    # The target .95 lies at nine tenths of the baseline's step between two evaluations.
    first = 40 + 20 * 0.45 / 0.46
    assert found.labels.value == pytest.approx(first)
    assert found.baseline_labels.value == pytest.approx(118.0)
    assert found.log_ratio.value == pytest.approx(np.log(first / 118))
    assert (found.log_ratio.low, found.log_ratio.high) == pytest.approx([found.log_ratio.value] * 2)
    assert found.kl.value == pytest.approx(first - 118)
    assert found.area.value == pytest.approx((0.46 * 190 - 0.5 * 130) / 240)
    assert (found.never, found.baseline_never) == (0.0, 0.0)


def test_never_is_infinity_in_the_figure_and_its_share_is_told():
    found = compare(constant(0.7, 60), constant(1.0, 120), 240, draws=500)
    assert found.labels.value == found.log_ratio.value == found.log_ratio.high == np.inf
    assert found.never == 1.0
    assert np.isnan(found.kl.value)
    assert verdicts([found]) == [MORE]


def test_where_neither_arrives_nothing_is_told():
    found = compare(constant(1.0, 300), constant(1.0, 400), 240, draws=500)
    assert (found.never, found.baseline_never) == (1.0, 1.0)
    assert found.log_ratio.value == 0.0
    assert verdicts([found]) == [NOT_SHOWN]


def test_passive_that_arrives_later_is_known_from_its_longer_run():
    found = compare(constant(1.0, 60), constant(1.0, 300), 240, draws=500)
    assert found.baseline_never == 1.0
    assert found.baseline_labels.value == pytest.approx(298.0)
    assert found.log_ratio.value == pytest.approx(np.log(58 / 298))


def test_what_comes_after_the_horizon_does_not_move_a_crossing_before_it():
    passive = constant(1.0, 120)
    dips = passive.height.copy()
    dips[:, LABELS == 300] = 0.5  # a fit over all would cross there alone
    later = Arm(LABELS, dips, passive.kl, passive.regret)
    assert compare(passive, later, 240, draws=500).baseline_labels.value == pytest.approx(118.0)


def test_an_arm_of_half_the_labels_is_found_and_a_slower_one_too():
    generator = np.random.default_rng(0)
    passive = arm(40, generator)
    fast = compare(arm(40, generator, speed=2.0, end=240), passive, 240, draws=1000)
    assert fast.log_ratio.low < np.log(0.5) < fast.log_ratio.high < 0
    assert fast.area.low > 0
    assert fast.target.low < fast.target.value < fast.target.high  # the target is a figure of seeds too
    assert fast.regret.high < 0
    slow = compare(arm(40, generator, speed=0.5, end=240), passive, 240, draws=1000)
    assert slow.never > 0  # half of its seeds are half-way at 200
    assert verdicts([fast, slow]) == [FEWER, MORE]


def test_p_value_and_interval_say_the_same():
    generator = np.random.default_rng(3)
    for trial in range(30):
        found = compare(arm(12, generator, speed=1.3), arm(12, generator), 240, draws=2000, seed=trial)
        for figure in (found.log_ratio, found.area, found.regret):
            if abs(figure.p_value - 0.05) > 0.002:  # so many draws say no more
                assert figure.shows_difference == (figure.p_value < 0.05)


def test_an_arm_against_itself_is_not_shown_in_about_95_per_cent_of_trials():
    generator = np.random.default_rng(0)
    trials = [
        compare(arm(12, generator, end=240), arm(12, generator), 240, draws=200, seed=trial) for trial in range(400)
    ]
    quiet = np.mean([not trial.log_ratio.shows_difference for trial in trials])
    assert 0.925 <= quiet <= 0.985  # two standard errors of .95 over 400 trials are .022
    check = null_check([(arm(40, generator), 240)], trials=40, draws=200)
    assert 0.85 <= check.not_shown[0] <= 1.0
    assert check.none_shown == check.not_shown[0]  # a family of one needs no correction


def test_the_null_check_of_several_arms_is_that_of_each_and_of_the_family():
    generator = np.random.default_rng(2)
    arms = [(arm(12, generator), 240), (arm(12, generator), 200), (arm(12, generator), 240)]
    check = null_check(arms, trials=30, draws=200)
    assert check.not_shown[0] == null_check(arms[:1], trials=30, draws=200).not_shown[0]  # whoever stands beside it
    assert len(check.not_shown) == 3
    # By Holm the family claims less than its arms one by one.
    assert check.none_shown >= 1 - sum(1 - share for share in check.not_shown)


def test_passive_reaches_its_target_the_surer_the_longer_it_runs():
    passive = arm(12, np.random.default_rng(1))
    shares = [share_reaching(passive, horizon, draws=500) for horizon in (100, 140, 240)]
    assert shares[0] < 0.5 < shares[2]
    assert shares == sorted(shares)
    assert shares[2] == 1.0


def test_holm_by_hand():
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_one_of_three_at_p_03_is_not_shown():
    generator = np.random.default_rng(0)
    passive = arm(12, generator)
    some = compare(arm(12, generator, speed=1.25), passive, 240, draws=2000)
    assert 0.02 < some.log_ratio.p_value < 0.05
    assert verdicts([some]) == [FEWER]
    assert verdicts([some, some, some]) == [NOT_SHOWN] * 3


def test_an_arm_that_was_not_evaluated_at_the_horizon_is_refused():
    passive = arm(12, np.random.default_rng(0))
    with pytest.raises(ValueError, match="not 250"):
        compare(passive, passive, 250)
