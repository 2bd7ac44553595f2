"""The floor of a round: published figures and limits of the formulas."""

from dataclasses import replace

import pytest

from duelenv import UserError
from duelenv.experiments.sizing.floors import Round, floor_of
from duelenv.experiments.sizing.machines import CARDS, Card, Machine
from duelenv.experiments.sizing.pace import pace_of
from duelenv.experiments.sizing.shapes import SHAPES

H200 = Machine(CARDS["h200"])
SMALL, LARGE = Round(), Round(prompt_tokens=1024, response_tokens=512)
ONE_B, EIGHT_B, SEVENTY_B = SHAPES["1b"], SHAPES["8b"], SHAPES["70b"]


def decode(floor, shared):
    return sum(phase.cost(shared).seconds for phase in floor.phases if phase.name.startswith("decode"))


# Published figures ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("figure", "published", "half_a_digit"),
    [
        (lambda floor: floor.phase("prefill").shared.seconds, 0.07, 0.005),
        (lambda floor: floor.phase("prefill").repeated.seconds, 1.36, 0.005),
        (lambda floor: decode(floor, True), 0.27, 0.005),
        (lambda floor: decode(floor, False), 1.28, 0.005),
        (lambda floor: floor.phase("reference").shared.seconds, 0.15, 0.005),
        (lambda floor: floor.phase("training").shared.seconds, 0.46, 0.005),
        (lambda floor: floor.seconds(), 0.96, 0.005),
        (lambda floor: floor.seconds(False), 3.3, 0.05),
    ],
)
def test_a_round_of_1b_takes_what_is_published(figure, published, half_a_digit):
    assert figure(floor_of(ONE_B, SMALL, H200)) == pytest.approx(published, abs=half_a_digit)


def test_a_round_of_8b_takes_what_is_published():
    floor = floor_of(EIGHT_B, LARGE, H200)
    assert floor.seconds() == pytest.approx(35, abs=0.5)
    assert floor.seconds(False) == pytest.approx(77, abs=0.5)
    assert floor.memory.cache_repeated == pytest.approx(258e9, abs=0.5e9)
    assert floor.memory.cache_repeated > floor.memory.room > floor.memory.cache_shared


def test_assumptions_that_the_published_figures_rule_out():
    """Each moves a figure by more than its last digit: they decide which formulas are meant."""
    floor = floor_of(ONE_B, SMALL, H200)
    work = floor.round
    prompts = work.prompts * work.prompt_tokens
    with_embeddings = 2 * ONE_B.parameters * prompts / H200.flops
    assert with_embeddings == pytest.approx(0.084, abs=0.0005)  # not .07
    without_attention = 20 * 2 * ONE_B.body * prompts / H200.flops
    assert without_attention == pytest.approx(1.34, abs=0.005)  # not 1.36
    all_responses = floor.phase("reference").shared.seconds * work.candidates / 2
    assert all_responses > 1.5  # not .15: the pair is scored, not all
    assert floor_of(ONE_B, replace(SMALL, share_training=True), H200).phase("training").shared.seconds < 0.26  # not .46
    arithmetic = floor.phase("decode, arithmetic").shared
    assert decode(floor, True) + arithmetic.memory > 0.29  # not .27: weights are read while products are computed
    assert decode(floor, True) - arithmetic.compute < 0.11  # not .27: decoding is no matter of reading alone


# Limits of the formulas ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("agent", ["passive", "thompson"])
def test_one_response_shares_its_prompt_with_nobody(shape, agent):
    floor = floor_of(shape, Round(candidates=1, agent=agent), H200)
    assert all(phase.shared == phase.repeated for phase in floor.phases)
    assert floor.memory.cache_shared == floor.memory.cache_repeated


def test_twice_the_responses_double_what_is_drawn_and_not_what_is_learnt():
    one, two = floor_of(EIGHT_B, LARGE, H200), floor_of(EIGHT_B, replace(LARGE, candidates=40), H200)
    arithmetic, keys = "decode, arithmetic", "decode, keys and values"
    assert two.phase(arithmetic).shared.compute == pytest.approx(2 * one.phase(arithmetic).shared.compute)
    assert two.phase(arithmetic).shared.memory == one.phase(arithmetic).shared.memory  # weights are read once a step
    assert two.phase(keys).repeated.memory == pytest.approx(2 * one.phase(keys).repeated.memory)
    assert one.phase(keys).shared.memory < two.phase(keys).shared.memory < 2 * one.phase(keys).shared.memory
    for name in ("reference", "training", "optimiser"):
        assert two.phase(name) == one.phase(name)
    assert two.phase("prefill").shared == one.phase("prefill").shared
    assert two.phase("prefill").repeated.compute == pytest.approx(2 * one.phase("prefill").repeated.compute)


def test_a_sum_over_tokens_is_the_closed_form():
    """Operations of drawing, added up token by token and step by step."""
    work = Round(prompts=3, candidates=4, prompt_tokens=7, response_tokens=5)
    floor = floor_of(ONE_B, work, H200)
    per_seen = 4 * ONE_B.layers * ONE_B.heads * ONE_B.head_width
    prompt = sum(2 * ONE_B.body + per_seen * (place + 1) for place in range(7))
    assert floor.phase("prefill").shared.compute == pytest.approx(3 * prompt / H200.flops)
    response = sum(2 * (ONE_B.body + ONE_B.head) + per_seen * (7 + step + 1) for step in range(5))
    assert floor.phase("decode, arithmetic").shared.compute == pytest.approx(12 * response / H200.flops)
    read = sum(12 * (step + 1) + 3 * 7 for step in range(5)) * ONE_B.cache_bytes
    assert floor.phase("decode, keys and values").shared.memory == pytest.approx(read / H200.bandwidth)
    pair = 2 * (prompt + sum(2 * (ONE_B.body + ONE_B.head) + per_seen * (7 + step + 1) for step in range(5)))
    assert floor.phase("reference").shared.compute == pytest.approx(3 * pair / H200.flops)


def test_one_sequence_is_drawn_at_the_speed_of_reading_weights():
    floor = floor_of(EIGHT_B, Round(prompts=1, candidates=1, prompt_tokens=1, response_tokens=100), H200)
    assert floor.phase("decode, arithmetic").shared.bound == "memory"
    read = 2 * (EIGHT_B.body + EIGHT_B.head) * 100 / 4.3e12
    assert decode(floor, True) == pytest.approx(read, rel=0.01)


@pytest.mark.parametrize("field", ["prompts", "candidates", "prompt_tokens", "response_tokens"])
def test_more_of_anything_takes_no_less(field):
    before = None
    for count in (1, 2, 3, 8, 64, 65, 500):
        floor = floor_of(EIGHT_B, replace(LARGE, **{field: count}), Machine(CARDS["h200"], 8, 2))
        now = [cost.seconds for phase in floor.phases for cost in (phase.shared, phase.repeated)]
        now += [floor.memory.sampling(True), floor.memory.sampling(False), floor.memory.training]
        assert before is None or all(new >= old for new, old in zip(now, before, strict=True)), (field, count)
        assert all(phase.shared.seconds <= phase.repeated.seconds for phase in floor.phases)
        before = now


def test_copies_on_more_gpus_divide_prompts_and_cut_models_divide_weights():
    one = floor_of(EIGHT_B, LARGE, H200)
    copies = floor_of(EIGHT_B, LARGE, Machine(CARDS["h200"], 8))
    cut = floor_of(EIGHT_B, LARGE, Machine(CARDS["h200"], 8, 8))
    name = "decode, arithmetic"
    for floor in (copies, cut):
        assert floor.phase(name).shared.compute == pytest.approx(one.phase(name).shared.compute / 8)
        assert floor.phase("training").shared.compute == pytest.approx(one.phase("training").shared.compute / 8)
    assert copies.phase(name).shared.memory == one.phase(name).shared.memory
    assert cut.phase(name).shared.memory == pytest.approx(one.phase(name).shared.memory / 8)
    assert copies.phase(name).shared.links == 0 < cut.phase(name).shared.links
    assert copies.memory.sampling_weights == 8 * cut.memory.sampling_weights
    # 65 prompts on 64 copies: one of them has two.
    two = floor_of(EIGHT_B, replace(LARGE, prompts=65), Machine(CARDS["h200"], 64))
    full = floor_of(EIGHT_B, replace(LARGE, prompts=128), Machine(CARDS["h200"], 64))
    assert two.sampling() == full.sampling()


def test_a_model_is_not_cut_finer_than_its_heads_of_keys():
    floors = [floor_of(replace(EIGHT_B, groups=groups), LARGE, Machine(CARDS["h200"], 8, 8)) for groups in (1, 2, 4, 8)]
    keys = {floor.phase("decode, keys and values").shared.memory for floor in floors}
    assert len(keys) == 1  # each GPU keeps at least one head


def test_what_agents_and_adapters_change():
    passive, thompson = (floor_of(EIGHT_B, replace(LARGE, agent=agent), H200) for agent in ("passive", "thompson"))
    for name in ("reference", "training", "optimiser"):
        assert thompson.phase(name).shared.seconds == pytest.approx(2 * passive.phase(name).shared.seconds)
    assert thompson.sampling() == passive.sampling()
    with pytest.raises(StopIteration):
        passive.phase("features")
    features = thompson.phase("features").repeated.seconds
    scored = passive.phase("reference").shared.seconds
    assert features == pytest.approx(10 * scored, rel=0.03)  # 20 responses against 2, without the head
    adapter = floor_of(EIGHT_B, replace(LARGE, lora=16), H200)
    ratio = adapter.phase("training").shared.seconds / passive.phase("training").shared.seconds
    assert ratio == pytest.approx(2 / 3, abs=0.02)
    assert adapter.memory.reference == 0
    assert adapter.memory.masters < passive.memory.masters / 1000
    again = floor_of(EIGHT_B, replace(LARGE, checkpointing=True), H200)
    assert again.phase("training").shared.compute == pytest.approx(4 / 3 * passive.phase("training").shared.compute)
    assert again.memory.activations < passive.memory.activations / 5


def test_prompts_at_once_are_the_most_that_fit():
    floor = floor_of(EIGHT_B, LARGE, H200)
    at_once = floor.memory.prompts_at_once(True)
    for count, fits in ((at_once, True), (at_once + 1, False)):
        memory = floor_of(EIGHT_B, replace(LARGE, prompts=count), H200).memory
        assert (memory.sampling(True) <= memory.room) == fits
    assert floor_of(SEVENTY_B, LARGE, H200).memory.prompts_at_once(True) == 0
    assert floor_of(ONE_B, SMALL, H200).memory.fits(False)
    assert floor_of(EIGHT_B, replace(LARGE, lora=16), H200).memory.fits(True)
    node = floor_of(SEVENTY_B, replace(LARGE, checkpointing=True), Machine(CARDS["h200"], 8, 8))
    assert node.memory.training > node.memory.room  # as the page says of one node


def test_training_state_is_18_bytes_a_weight_and_a_reference():
    memory = floor_of(ONE_B, SMALL, H200).memory
    held = memory.weights + memory.masters + memory.moments + memory.gradients
    assert held == 18 * ONE_B.parameters
    assert memory.reference == 2 * ONE_B.parameters


def test_activations_are_those_that_megatron_counts():
    """34 s b h of Korthikanti et al. 2022 (2205.05198), without masks of dropout and attention maps."""
    assert ONE_B.kept_bytes() == ONE_B.layers * ONE_B.hidden * (34 - 2)


def test_separate_nodes():
    machine, trainers = Machine(CARDS["h200"], 16, 8), Machine(CARDS["h200"], 16)
    work = replace(LARGE, checkpointing=True)
    floor = floor_of(SEVENTY_B, work, machine, trainers)
    pace = pace_of(floor)
    assert pace.transfer == pytest.approx(2 * SEVENTY_B.parameters / 8 / 50e9)  # each of 8 takes in an eighth
    assert pace.cycle == max(floor.sampling(), floor.training()) + pace.transfer
    # As many samplers as are said keep up, a copy less does not.
    for gpus, keeps in ((pace.samplers, True), (pace.samplers - 8, False)):
        other = floor_of(SEVENTY_B, work, replace(machine, gpus=gpus), trainers) if gpus else None
        assert (other is not None and other.sampling() <= other.training()) == keeps
    many = floor_of(SEVENTY_B, work, replace(machine, gpus=64), trainers)
    assert pace_of(many).transfer == pytest.approx(4 * pace.transfer)  # 16 senders feed 8 copies
    assert pace_of(floor_of(SEVENTY_B, work, replace(machine, network=25e9), trainers)).transfer == 2 * pace.transfer
    assert floor.memory.resident == floor.memory.sampling_weights
    with pytest.raises(UserError, match="trainers of their own"):
        pace_of(floor_of(ONE_B, SMALL, H200))
    slow = Card("slow", 1e6, 1e3, 1e9, 1e9)
    assert pace_of(floor_of(ONE_B, SMALL, Machine(slow), Machine(CARDS["h200"], 8))).samplers is None
