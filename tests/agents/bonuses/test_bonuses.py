"""Optimistic bonus terms: their sign, their size beside the loss, and where they agree."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from worlds import make_vector

import duelenv.agents
from duelenv.agents.bonuses import BONUSES, gradient_ratio, make_bonus
from duelenv.agents.bonuses.novelty import LinearCounts, inverse_root_count
from duelenv.agents.losses import PreferenceBatch, make_loss
from duelenv.agents.population import Listed, expected_bonus
from duelenv.agents.roles import Duels
from duelenv.ground.errors import UserError


def start_of_training(rows: int) -> PreferenceBatch:
    """Duels of a policy that still equals its reference; the second response is the reference's."""
    log_prob = -10 - torch.rand(rows, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return PreferenceBatch(
        log_prob=log_prob.clone().requires_grad_(),
        label=torch.arange(rows).remainder(2).double(),
        length=torch.full((rows, 2), 8),
        reference_log_prob=log_prob,
    )


def ratio_at_start(name: str, beta: float, settings: dict[str, Any]) -> float:
    """The ratio of a bonus to the DPO loss, the bonus on the reference's half of the duels."""
    batch = start_of_training(6)
    assert batch.reference_log_prob is not None
    by_reference = batch.log_prob[:, 1]
    bonus = make_bonus(name, **settings)(by_reference, batch.reference_log_prob[:, 1])
    (of_loss,) = torch.autograd.grad(make_loss("dpo", beta=beta)(batch), batch.log_prob, retain_graph=True)
    (of_bonus,) = torch.autograd.grad(bonus, by_reference)
    return gradient_ratio(float(of_loss.abs().sum()), float(of_bonus.abs().sum()))


@pytest.mark.parametrize("beta", [0.01, 0.1, 2.0])
@pytest.mark.parametrize("alpha", [1e-3, 0.5])
def test_selm_is_two_alpha_of_the_dpo_gradient_at_the_start(alpha: float, beta: float) -> None:
    assert ratio_at_start("selm", beta, {"alpha": alpha, "beta": beta}) == pytest.approx(2 * alpha)


@pytest.mark.parametrize("beta", [0.01, 0.1, 2.0])
def test_xpo_is_two_alpha_over_beta_of_the_dpo_gradient_at_the_start(beta: float) -> None:
    assert ratio_at_start("xpo", beta, {"alpha": 1e-3}) == pytest.approx(2e-3 / beta)


def test_the_ratio_of_nothing_is_none() -> None:
    assert gradient_ratio(0.5, 0.5) == 2.0
    assert gradient_ratio(0.0, 0.5) == math.inf
    assert math.isnan(gradient_ratio(0.0, 0.0))


LINEAR = ("selm", "vpo", "xpo")


@pytest.mark.parametrize("name", [*LINEAR, "geb", "se_popo"])
def test_minimising_pushes_down_what_the_other_policy_says(name: str) -> None:
    log_prob = torch.tensor([-3.0, -5.0], requires_grad=True)
    bonus = make_bonus(name, alpha=0.2)
    (gradient,) = torch.autograd.grad(bonus(log_prob, torch.tensor([-3.0, -4.0])), log_prob)
    assert (gradient > 0).all()
    if name in LINEAR:
        assert gradient.sum().item() == pytest.approx(bonus.coefficient)  # type: ignore[attr-defined]


def test_selm_is_alpha_beta_times_the_mean_log_ratio_and_zero_at_the_reference() -> None:
    bonus = make_bonus("selm", alpha=0.5, beta=0.1)
    log_prob, reference = torch.tensor([-3.0, -5.0]), torch.tensor([-4.0, -9.0])
    assert bonus(log_prob, reference).item() == pytest.approx(0.05 * (1 + 4) / 2)
    assert bonus(reference, reference).item() == 0


def test_xpo_differs_from_selm_by_beta_and_a_constant() -> None:
    log_prob, reference = torch.tensor([-3.0, -5.0]), torch.tensor([-4.0, -9.0])
    selm = make_bonus("selm", alpha=2.0, beta=0.1)(log_prob, reference)
    xpo = make_bonus("xpo", alpha=0.2)(log_prob, reference)
    assert xpo.item() == pytest.approx(selm.item() + 0.2 * reference.mean().item())


def test_vpo_is_optimistic_online_and_pessimistic_offline() -> None:
    log_prob, reference = torch.tensor([-3.0, -5.0]), torch.tensor([-4.0, -9.0])
    online, offline = (make_bonus("vpo", alpha=0.3, online=flag)(log_prob, reference) for flag in (True, False))
    assert online.item() == -offline.item() == make_bonus("selm", alpha=0.3)(log_prob, reference).item()


@pytest.mark.parametrize("name", sorted(BONUSES))
def test_no_strength_or_no_responses_is_no_bonus(name: str) -> None:
    log_prob = torch.tensor([-3.0, -5.0], requires_grad=True)
    new = torch.tensor([0.5, -0.5])
    (gradient,) = torch.autograd.grad(make_bonus(name, alpha=0)(log_prob, log_prob.detach(), new), log_prob)
    assert gradient.tolist() == [0, 0]
    empty = make_bonus(name)(log_prob[:0], log_prob[:0].detach(), new[:0])
    assert empty.item() == 0
    (gradient,) = torch.autograd.grad(empty, log_prob)
    assert gradient.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("slem", {}, "bonus 'slem' is unknown: did you mean 'selm'"),
        ("xpo", {"beta": 0.1}, "no setting 'beta': choose from alpha"),
        ("selm", {"alpha": -1e-3}, "alpha is -0.001"),
        ("selm", {"beta": 0}, "beta is 0"),
        ("vpo", {"online": "no"}, "online is 'no', expected true or false"),
        ("vpo", {"alpha": math.nan}, "alpha is nan"),
        ("geb", {"divergence": "kl"}, "divergence='kl' is unknown"),
        ("geb", {"atom": "ratio"}, "atom='ratio' is unknown"),
        ("geb", {"offset": -1}, "offset is -1"),
        ("copo", {"clip": 0}, "clip is 0"),
    ],
)
def test_wrong_settings_are_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_bonus(name, **settings)


def test_unequal_shapes_are_refused_rather_than_broadcast() -> None:
    for name in ("selm", "vpo", "geb", "se_popo", "copo"):
        with pytest.raises(UserError, match="same responses"):
            make_bonus(name)(torch.zeros(3, 1), torch.zeros(3))
        with pytest.raises(UserError, match="reference_log_prob is None"):
            make_bonus(name)(torch.zeros(3, 1), None)
    assert make_bonus("xpo", alpha=0.5)(torch.full((3, 1), -2.0), None) == -1.0


# Bounded --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.01, 0.1, 2.0])
def test_se_popo_is_alpha_over_two_beta_of_the_dpo_gradient_at_the_start(beta: float) -> None:
    assert ratio_at_start("se_popo", beta, {"alpha": 1e-3, "beta": beta}) == pytest.approx(1e-3 / (2 * beta))


def test_se_popo_by_hand_its_bound_and_its_limit() -> None:
    log_prob, reference = torch.tensor([-3.0, -9.0]).double(), torch.tensor([-4.0, -5.0]).double()
    found = make_bonus("se_popo", alpha=0.3, beta=2.0)(log_prob, reference)  # sigma(2) and sigma(-8)
    assert found.item() == pytest.approx(0.3 / 2 * ((0.880797 + 0.000335) / 2 - 0.5), abs=1e-6)
    far = make_bonus("se_popo", alpha=0.3, beta=2.0)(torch.tensor([-1e4]), torch.tensor([-1.0]))
    assert far.item() == pytest.approx(-0.3 / 4)
    small = make_bonus("se_popo", alpha=0.3, beta=1e-4)(log_prob, reference)
    log_ratio = make_bonus("xpo", alpha=0.3)(log_prob - reference, None)
    assert small.item() == pytest.approx(log_ratio.item() / 4, rel=1e-6)


GEB = list(itertools.product(("reverse_kl", "hellinger", "forward_kl"), ("complement", "inverse")))
GENERATORS = {  # f with f''(1) = 1
    "reverse_kl": lambda u: u * np.log(u),
    "hellinger": lambda u: 4 * (1 - np.sqrt(u)),
    "forward_kl": lambda u: -np.log(u),
}


def gain(divergence: str, u: float) -> float:
    """u f'(u) - f(u), by a difference quotient."""
    f = GENERATORS[divergence]
    return u * (f(u + 1e-6) - f(u - 1e-6)) / 2e-6 - f(u)


@pytest.mark.parametrize("probability", ["relative", "absolute"])
@pytest.mark.parametrize(("divergence", "atom"), GEB)
def test_geb_is_the_gain_of_its_divergence(divergence: str, atom: str, probability: str) -> None:
    """Up to the constant of the gain, so between two policies."""
    log_prob, reference = torch.tensor([-0.7, -2.0, -1.1]).double(), torch.tensor([-0.4, -1.0, -1.9]).double()
    bonus = make_bonus("geb", alpha=0.3, beta=0.2, divergence=divergence, atom=atom, probability=probability)

    def slow(values: torch.Tensor) -> float:
        pi, ref = values.exp().numpy(), reference.exp().numpy()
        p = pi / (pi + ref) if probability == "relative" else pi
        return -0.06 * float(np.mean([gain(divergence, u) for u in (1 / p if atom == "inverse" else 1 - p)]))

    found = bonus(log_prob, reference) - bonus(log_prob - 0.3, reference)
    assert found.item() == pytest.approx(slow(log_prob) - slow(log_prob - 0.3), abs=1e-8)


@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize("probability", ["relative", "absolute"])
@pytest.mark.parametrize(("divergence", "atom"), GEB)
def test_geb_is_optimistic_by_the_papers_definition(
    divergence: str, atom: str, probability: str, offset: float
) -> None:
    """What is maximised, ref * gain(u), has no positive mixed derivative by pi and ref; with u = pi / ref it has."""
    bonus = make_bonus(
        "geb", alpha=1.0, beta=1.0, divergence=divergence, atom=atom, probability=probability, offset=offset
    )

    def maximised(pi: float, ref: float) -> float:
        log_pi, log_ref = (torch.tensor([math.log(value)]).double() for value in (pi, ref))
        return -ref * bonus(log_pi, log_ref).item()

    def mixed(value: Any, pi: float, ref: float, h: float = 1e-4) -> float:
        corners = [sign * other * value(pi + sign * h, ref + other * h) for sign in (1, -1) for other in (1, -1)]
        return float(sum(corners)) / (4 * h * h)

    for pi, ref in itertools.product((0.05, 0.3, 0.8), (0.1, 0.6)):
        assert mixed(maximised, pi, ref) < 1e-4
        if divergence == "hellinger":
            assert mixed(lambda pi, ref: ref * gain(divergence, pi / ref), pi, ref) > 0.1


def test_geb_holds_the_older_bonuses() -> None:
    log_prob, reference = torch.tensor([-3.0, -5.0]).double(), torch.tensor([-4.0, -9.0]).double()
    inverse = make_bonus("geb", alpha=0.3, beta=0.2, divergence="forward_kl", atom="inverse", probability="absolute")
    assert inverse(log_prob, reference).item() == pytest.approx(make_bonus("xpo", alpha=0.06)(log_prob, None).item())
    by_default = make_bonus("geb", alpha=0.3, beta=0.2)
    popo = make_bonus("se_popo", alpha=0.06, beta=1.0)
    assert by_default(log_prob, reference).item() == pytest.approx(popo(log_prob, reference).item() - 0.03)
    assert ratio_at_start("geb", 0.1, {"alpha": 1e-3, "beta": 0.1}) == pytest.approx(1e-3 / 2)


def test_geb_by_default_fades_where_a_response_is_improbable() -> None:
    log_prob = torch.tensor([0.0, -5.0, -1e4, 1e4]).requires_grad_()
    (gradient,) = torch.autograd.grad(make_bonus("geb", alpha=4.0, beta=1.0)(log_prob, torch.zeros(4)), log_prob)
    assert gradient.isfinite().all()
    assert gradient[0] == pytest.approx(1 / 4) and gradient[1] < 0.01 and gradient[2] == 0 and gradient[3] == 0


# Counts ---------------------------------------------------------------------------------------------------------------


def test_copo_by_hand_and_which_way_it_pushes() -> None:
    log_prob = torch.tensor([-3.0, -5.0, -2.0], requires_grad=True)
    reference = torch.tensor([-3.0, -5.0 - math.log(2), -9.0])  # weights 1, 2 and, clipped, 5
    new = torch.tensor([0.4, -0.3, -0.1])
    value = make_bonus("copo", alpha=0.6)(log_prob, reference, new)
    assert value.item() == pytest.approx(-0.6 / 3 * (0.4 * -3 + 2 * -0.3 * -5 + 5 * -0.1 * -2), rel=1e-5)
    (gradient,) = torch.autograd.grad(value, log_prob)
    assert gradient.tolist() == pytest.approx([-0.08, 0.12, 0.1], rel=1e-5)  # the newer one up, the others down


def test_copo_follows_the_gradient_of_the_expected_bonus() -> None:
    """At pi = ref, over all responses with their probabilities: minus alpha d E_pi[b] / d logits."""
    logits = torch.tensor([0.3, -1.0, 0.8]).double().requires_grad_()
    bonus = torch.tensor([0.9, 0.2, 0.5]).double()
    log_prob = logits.log_softmax(0)
    probability = log_prob.detach().exp()
    (expected,) = torch.autograd.grad(-0.7 * (log_prob.exp() * bonus).sum(), logits, retain_graph=True)
    centred = bonus - (probability * bonus).sum()
    terms = [
        p * make_bonus("copo", alpha=0.7)(value[None], value.detach()[None], b[None])
        for p, value, b in zip(probability, log_prob, centred, strict=True)
    ]
    (found,) = torch.autograd.grad(sum(terms), logits, retain_graph=True)
    torch.testing.assert_close(found, expected)
    given = Listed(log_prob, log_prob.detach(), torch.ones(3, dtype=torch.int64))
    (found,) = torch.autograd.grad(expected_bonus(make_bonus("copo", alpha=0.7), given, probability, bonus), logits)
    torch.testing.assert_close(found, expected)
    alone = Listed(log_prob.detach().requires_grad_(), log_prob.detach(), given.length)  # each log-prob by itself
    expected_bonus(make_bonus("copo", alpha=0.7), alone, probability, bonus).backward()
    torch.testing.assert_close(alone.log_prob.grad, -0.7 * probability * centred)  # the common ones down
    for new in (None, bonus[:2]):
        with pytest.raises(UserError, match=r"novelty has shape .* COPO reads that of each of the 3 responses"):
            expected_bonus(make_bonus("copo"), given, probability, new)


def test_copo_without_novelty_is_refused() -> None:
    for new in (None, torch.zeros(2)):
        with pytest.raises(UserError, match="novelty has shape"):
            make_bonus("copo")(torch.zeros(3, 1), torch.zeros(3, 1), new)


def test_on_one_hot_features_the_bonus_is_one_over_the_root_of_the_count() -> None:
    gram = np.diag([0.0, 3.0, 24.0])
    np.testing.assert_allclose(inverse_root_count(np.eye(3), gram, 1.0), [1.0, 0.5, 0.2])


def test_the_bonus_is_what_linear_coin_flips_come_to() -> None:
    rng = np.random.default_rng(0)
    features, asked, prior, coins = rng.normal(size=(30, 4)), rng.normal(size=(5, 4)), 0.5, 40_000
    gram = features.T @ features
    weights = rng.normal(size=(4, coins)) / np.sqrt(prior)
    flips = rng.choice([-1.0, 1.0], size=(30, coins))
    fitted = np.linalg.solve(gram + prior * np.eye(4), features.T @ flips + prior * weights)
    said = np.sqrt(((asked @ fitted) ** 2).mean(1))
    np.testing.assert_allclose(inverse_root_count(asked, gram, prior), said, rtol=0.02)


def test_counts_fall_with_the_root_and_follow_no_scale() -> None:
    rng = np.random.default_rng(1)
    raw = rng.normal(size=(400, 6)) * [1, 10, 0.1, 1, 1, 0] + 100
    counts, other = LinearCounts(6), LinearCounts(6)
    assert counts.novelty(raw[:3]).tolist() == [1, 1, 1]
    for part in (raw[:5], raw[5:]):
        counts.add(part)
        other.add(part * 7 - 600)
        np.testing.assert_allclose(counts.novelty(raw[:9]), other.novelty(raw[:9] * 7 - 600), rtol=1e-3)
    assert counts.count == 400
    seen, unseen = counts.novelty(raw[:50]), counts.novelty(raw[:50] + np.array([0, 0, 0, 30, 0, 0]))
    assert (unseen > 3 * seen).all()
    restored = LinearCounts(6)
    restored.load_state_dict(counts.state_dict())
    for _ in range(3):
        restored.add(raw)
    np.testing.assert_allclose(restored.novelty(raw[:9]), counts.novelty(raw[:9]) / 2, rtol=0.02)


# In training ----------------------------------------------------------------------------------------------------------


def copo(**settings: Any) -> Any:
    """COPO's learner in a small world, and a round with its labels."""
    sources = {"policy": 2, "reference": 2}
    env = make_vector("duelenv/AlignmentDuel-v0", 6, sources=sources, num_candidates=None)
    agent = duelenv.agents.make(
        "composed", env, ask="against_reference", bonus="copo", bonus_settings={"alpha": 1.0}, **settings
    )
    observation, _ = env.reset(seed=0)
    return agent, observation, agent.act(observation)


def test_what_duelled_is_counted_once_and_the_baseline_is_the_steps() -> None:
    agent, observation, pairs = copo(replay=6, bonus_draws=None)
    learner, labels = agent.learner, np.array([1.0, 0.0, np.nan, 1.0, 0.0, 1.0])
    for count in (10, 20):  # five labels of two responses each; old ones beside them are not counted again
        agent.update(observation, pairs, labels)
        assert learner._counts.count == count
    rows = np.arange(6)
    lesson = learner._lesson(observation, Duels(rows, pairs, labels), asked=True)
    new = np.take_along_axis(learner._novelty(lesson), lesson.bonus, axis=1)
    assert new.shape == (6, 2) and new.std() > 0
    assert new.mean() == pytest.approx(0, abs=1e-12)
    tokens, mask = learner._draws.of(observation, Duels(rows, pairs, labels), asked=True)
    raw = learner._counts.novelty(learner.policy.embed(list(observation["prompt"]), tokens, mask))
    np.testing.assert_allclose(new, raw - raw.mean(), atol=1e-5)


def test_micro_batches_know_the_baseline_of_the_whole() -> None:
    ends = []
    for micro_batch in (None, 1, 4):
        agent, observation, pairs = copo(micro_batch=micro_batch)
        agent.update(observation, pairs, np.array([1.0, 0.0, 1.0, 1.0, 0.0, 1.0]))
        ends.append(torch.cat([weights.detach().flatten() for weights in agent.learner.policy.parameters()]))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-3, atol=5e-5)
    torch.testing.assert_close(ends[0], ends[2], rtol=1e-3, atol=5e-5)
