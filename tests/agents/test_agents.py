"""The agents by name: which there are, what settings they take and refuse, and whose state they go on from."""

import gymnasium
import pytest
from agent_play import ALIGNMENT, FOUR, alignment
from worlds import make_vector

import duelenv
import duelenv.agents
from duelenv.agents.base import SettingsReader, register
from duelenv.ground.errors import UserError

# The registry ---------------------------------------------------------------------------------------------------------


def test_the_four_are_there():
    assert set(FOUR) <= set(duelenv.agents.names())


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("tompson", {}, "did you mean 'thompson'"),
        ("nobody", {}, "choose from"),
        ("thompson", {"objectiv": "best_arm"}, "did you mean 'objective'"),
        ("thompson", {"objective": "worst_arm"}, "worst_arm"),
        ("thompson", {"num_samples": 1}, "num_samples"),
        ("thompson", {"ask_share": 0.5}, "ask_share"),  # read in selective worlds only
        ("thompson", {"taught_pairs": 1}, "taught_pairs"),  # no policy to train here
        ("passive", {"loss": "ipo"}, "loss"),
        ("passive", {"prior_precision": -1.0}, "prior_precision"),
        ("real", {"rule": "far"}, "far"),
        ("thompson", {"belief": "oracle"}, "oracle"),
        ("selm", {"loss": "dpo"}, "loss"),
        ("selm", {"beta": 0.0}, "beta"),
    ],
)
def test_a_mistake_in_a_feature_world_is_named(name, settings, message):
    env = make_vector("duelenv/FeatureDuel-v0", 4)
    with pytest.raises(duelenv.UserError, match=message):
        duelenv.agents.make(name, env, **settings)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("passive", {"loss": "dpoo"}, "dpo"),
        ("passive", {"loss_settings": {"noise": 0.1}}, "noise"),
        ("passive", {"gradient_steps": 0}, "gradient_steps"),
        ("passive", {"reference": "drifting"}, "drifting"),
        ("passive", {"reference_every": 5}, "reference='moving'"),
        ("passive", {"prior_precision": 2.0}, "prior_precision"),
        ("thompson", {"taught_pairs": -1}, "taught_pairs"),
        ("thompson", {"heads": 0}, "heads"),
    ],
)
def test_a_mistake_in_an_alignment_world_is_named(name, settings, message):
    with pytest.raises(duelenv.UserError, match=message):
        alignment(name, **settings)


def test_selm_is_refused_where_the_reference_does_not_duel():
    env = make_vector(ALIGNMENT, 2)
    with pytest.raises(duelenv.UserError, match="duels policy against reference"):
        duelenv.agents.make("selm", env)


def test_other_environments_are_refused():
    with pytest.raises(duelenv.UserError, match="needs a duelenv environment"):
        duelenv.agents.make("passive", gymnasium.make("CartPole-v1"))
    with pytest.raises(duelenv.UserError, match="needs a duelenv environment, got 'FeatureDuel': pass what gymnasium"):
        duelenv.agents.make("passive", "FeatureDuel")  # type: ignore[arg-type]


def test_a_taken_name_is_refused():
    with pytest.raises(duelenv.UserError, match="registered already"):
        register("passive")(lambda view, seed, settings: None)


def test_a_setting_is_read_once_and_by_its_owner():
    from duelenv.agents.asking import DissimilaritySettings

    reader = SettingsReader("real", {"rule": "l2", "other": 1})
    assert reader.take(DissimilaritySettings).rule == "l2"
    with pytest.raises(duelenv.UserError, match="reads no setting 'other'"):
        reader.close()


def test_no_two_parts_of_an_agent_share_a_setting():
    """The first would take it, and the second keep its default unnoticed."""
    from duelenv.agents.thompson import ThompsonSettings
    from duelenv.agents.trainer import TrainerSettings

    reader = SettingsReader("mine", {"learning_rate": 0.1})
    reader.take(TrainerSettings)
    reader.take(ThompsonSettings)
    with pytest.raises(ValueError, match="learning_rate"):
        reader.take(TrainerSettings)


@pytest.mark.parametrize("name", FOUR)
def test_the_learning_rate_is_the_policys(name):
    _, agent = alignment(name, learning_rate=1.5e-3)
    assert agent.learner.settings.learning_rate == 1.5e-3


# Seeds ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["thompson", "real", "rucb", "vids", "neural_ts"])
def test_a_state_of_another_seed_is_refused(name):
    """Half of an agent would go on with the draws of its own seed, and nobody would notice."""
    env = make_vector("duelenv/FeatureDuel-v0", 2, num_candidates=3, dim=2, fixed=True)
    state = duelenv.agents.make(name, env, seed=1).state_dict()
    with pytest.raises(UserError, match="make it with the same seed"):
        duelenv.agents.make(name, env, seed=2).load_state_dict(state)
    duelenv.agents.make(name, env, seed=1).load_state_dict(state)


@pytest.mark.parametrize("seed", [-1, "a", 0.5, None])
def test_a_seed_is_a_number_from_0_on(seed):
    env = make_vector("duelenv/FeatureDuel-v0", 2, num_candidates=3, dim=2)
    with pytest.raises(UserError, match="seed is"):
        duelenv.agents.make("thompson", env, seed=seed)
