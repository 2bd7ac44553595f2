"""Every kind of part by name: one's own is registered and used, a name is taken once, an unknown one is a sentence."""

import contextlib
import importlib
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest

import duelenv
from duelenv import UserError
from duelenv.experiments.config.kinds import KINDS
from duelenv.experiments.config.run_config import RunConfig
from duelenv.ground.registry import Registry

ROOT = Path(__file__).parents[1]
DECLARED = re.compile(r"^([A-Z_]+): (?:Final\[)?Registry\[", re.M)
TAIL = "; one of your own is known once 'modules' names the file that registers it"
TITLES = [kind.title for kind in KINDS]
REGISTRIES = {kind.title: kind.registry for kind in KINDS}

FEATURES = "duelenv/FeatureDuel-v0"
CONFIG = {"name": "own", "env": "AlignmentDuel", "agents": ["passive"], "oracle": "length"}


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts if parts[0] == "duelenv" else ("duelenv", *parts)).removesuffix(".__init__")


def refusal(look_up, *given):
    with pytest.raises(UserError) as refused:
        look_up(*given)
    return str(refused.value)


def test_every_registry_is_listed():
    declared = [
        getattr(importlib.import_module(module_of(path)), name)
        for folder in ("agents", "oracles", "duelenv", "experiments")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name in DECLARED.findall(path.read_text(encoding="utf-8"))
    ]
    listed = [id(registry) for registry in REGISTRIES.values()]
    assert sorted(map(id, declared)) == sorted(listed)


# Parts of one's own: what is registered, and what comes of its name where a user writes it. ---------------------------

USES = {}


def use(title):
    return lambda function: USES.setdefault(title, function)


def played(agent_settings, *, name="composed", **world):
    """Play a round of an agent with some settings; return the environment, the agent and its pairs."""
    env = gymnasium.make_vec(FEATURES, **{"num_envs": 4, "num_candidates": 3, "dim": 2, "horizon": 4, **world})
    agent = duelenv.agents.make(name, env, seed=0, **agent_settings)
    observation, _ = env.reset(seed=0)
    return env, agent, agent.act(observation)


@use("agents")
def own_agent(register):
    from duelenv.agents.parts import compose

    @register("mine")
    def mine(view, seed, settings):
        return compose(view, seed, settings, name="mine", ask="best_worst")

    assert played({}, name="mine")[2].shape == (4, 2)


@use("ask rules")
def own_ask_rule(register):
    @register("mine")
    def mine(resources, settings):
        return lambda observation, groups: np.tile([2, 1], (len(observation["features"]), 1))

    assert (played({"ask": "mine"})[2] == [2, 1]).all()


@use("prompt rules")
def own_prompt_rule(register):
    @register("mine")
    def mine(resources, settings):
        return lambda observation, chosen, groups: np.array([0.0, 3.0, 1.0, 2.0])

    actions = played({"ask": "best_worst", "prompts": "mine", "asked": 2}, selective=True, batch=4)[2]
    assert actions[:, 2].tolist() == [0, 1, 0, 1]


@use("beliefs")
def own_belief(register):
    class Fixed:
        def sample(self, features, num_samples):
            return np.tile(self.mean(features), (num_samples, 1, 1))

        def mean(self, features):
            return np.asarray(features[..., 0], np.float64)

        def state_dict(self):
            return {}

    @register("mine")
    def mine(view, dim, seed, settings):
        return Fixed()

    env, agent, _ = played({"belief": "mine"}, name="thompson")
    observation, _ = env.reset(seed=1)
    assert (agent.recommend(observation) == observation["features"][..., 0].argmax(axis=1)).all()


@use("teaching rules")
def own_teaching_rule(register):
    from duelenv.agents.base import SettingsReader
    from duelenv.agents.teaching import make_teaching

    said = []

    @register("mine")
    def mine(resources, settings):
        return said.append

    taught = make_teaching("mine", SimpleNamespace(), SettingsReader("x", {}))
    assert taught is not None


@use("losses")
def own_loss(register):
    from duelenv.agents.losses import DPO, make_loss

    @register("mine")
    class Mine(DPO): ...

    assert type(make_loss("mine", beta=0.5)) is Mine


@use("bonuses")
def own_bonus(register):
    from duelenv.agents.bonuses import make_bonus
    from duelenv.agents.bonuses.linear import SELM

    @register("mine")
    class Mine(SELM): ...

    assert type(make_bonus("mine", alpha=0.5)) is Mine


@use("oracles")
def own_oracle(register):
    @register("mine")
    def mine(chance=0.5):
        return lambda prompts, first, second: np.full(len(prompts), chance)

    oracle = duelenv.oracles.make("mine", chance=0.9, noise=0.25)
    assert np.isclose(oracle(["p"], ["a"], ["b"]).win, 0.75 * 0.9 + 0.25 * 0.1)


@use("wrappers of oracles")
def own_wrapper(register):
    from duelenv.oracles import Preferences
    from duelenv.oracles.wrappers import Wrapper

    @register("mine")
    class Mine(Wrapper):
        def __init__(self, inner, share):
            super().__init__(inner)
            object.__setattr__(self, "share", share)

        def change(self, preferences):
            return Preferences(self.share * preferences.win, preferences.tie)

    # The own one comes after those of the project, whatever the order of the settings: 0.5 (0.75 w + 0.25 (1 - w)).
    oracle = duelenv.oracles.make("length", mine=0.5, noise=0.25)
    sure = duelenv.oracles.make("length")(["p"], ["a b"], ["a"])[0]
    assert np.isclose(oracle(["p"], ["a b"], ["a"]).win[0], 0.5 * (0.75 * sure + 0.25 * (1 - sure)))
    assert "did you mean 'mine'?" in refusal(lambda: duelenv.oracles.make("length", minee=0.5))


@use("shapes of reward servers")
def own_shape(register):
    from duelenv.oracles.served.vllm import Classify

    @register("mine")
    class Mine(Classify):
        path = "/mine"

    assert duelenv.oracles.make("reward_server", url="http://127.0.0.1:9", api="mine").name.endswith("/mine")


@use("worlds")
def own_world(register):
    from duelenv.worlds.feature_duel import FeatureDuelVectorEnv

    @duelenv.register_world("mine/Own-v0")
    class Mine(FeatureDuelVectorEnv): ...

    try:
        env = gymnasium.make_vec("mine/Own-v0", num_envs=2, dim=2, horizon=3)
        assert isinstance(env.unwrapped, Mine)
        row = gymnasium.make("mine/Own-v0", dim=2, horizon=3)
        vectors, single = env.reset(seed=0)[0]["features"], row.reset(seed=0)[0]["features"]
        np.testing.assert_array_equal(vectors[0], single)
        named = RunConfig.from_dict({"name": "x", "env": {"id": "mine/Own-v0", "dim": 2}, "agents": ["passive"]})
        assert named.env.id == "mine/Own-v0"
        again = refusal(lambda: duelenv.register_world("mine/Own-v0")(FeatureDuelVectorEnv))
        assert again == "world 'mine/Own-v0' is registered already; choose another name"
        taken = refusal(lambda: duelenv.register_world("CartPole-v1")(FeatureDuelVectorEnv))
        assert taken == "world 'CartPole-v1' is registered already; choose another name"
        assert "is no id of Gymnasium" in refusal(lambda: duelenv.register_world("my own")(FeatureDuelVectorEnv))
    finally:
        gymnasium.registry.pop("mine/Own-v0", None)
    register("mine")(Mine)


@pytest.mark.parametrize("given", ["", 3, Registry])
def test_what_has_no_name_is_refused(given):
    """A decorator without its parentheses is given the class, and would register nothing under it."""
    said = refusal(lambda: duelenv.agents.register(given))
    assert said.startswith("agent parts are registered under a name, and ") and "register('mine')" in said


@use("stages of labels")
def own_stage(register):
    from duelenv.labels.stage import Stage

    @register("mine")
    class Mine(Stage):
        kind = "mine"
        draws = True

        def lose(self, uniforms):
            return np.ones(len(uniforms), bool)

    env, _, pairs = played({}, name="passive", stages=["mine"])
    assert np.isnan(env.step(pairs)[1]).all()


@use("matrices")
def own_matrix(register):
    @register("mine")
    def mine(chance=0.5):
        return np.array([[0.5, chance], [1 - chance, 0.5]])

    from duelenv.experiments.config.worlds import make_matrix

    np.testing.assert_array_equal(make_matrix({"name": "mine", "chance": 0.9}), [[0.5, 0.9], [1 - 0.9, 0.5]])
    gymnasium.make_vec("duelenv/MatrixDuel-v0", num_envs=2, matrix="mine", horizon=2)
    with pytest.raises(UserError, match="chance"):
        duelenv.oracles.matrices.make_matrix("mine", chances=1)
    with pytest.raises(UserError):  # what comes is checked
        make_matrix({"name": "mine", "chance": 3.0})


@use("utilities of features")
def own_utility(register):
    from duelenv.oracles.utilities import LinearUtility

    @register("mine")
    class Mine(LinearUtility): ...

    played({}, name="passive", utility="mine")


@use("links")
def own_link(register):
    @register("mine")
    def mine(difference):
        return 0.5 + np.arctan(difference) / np.pi

    env, _, pairs = played({}, name="passive", link="mine")
    assert np.isfinite(env.step(pairs)[4]["regret"]["average"]).all()


@use("encoders")
def own_encoder(register):
    from duelenv.worlds.encoders import read_features

    @register("mine")
    def mine():
        return lambda prompts, responses: np.zeros((len(prompts), 2), np.float32)

    (block,) = read_features("mine")
    assert block(["p"], ["r"]).shape == (1, 2)


@use("policies")
def own_policy(register):
    from duelenv.experiments.running.assembly import make_policy
    from duelenv.policies import CausalLMPolicy, tiny_model

    @register("mine")
    def mine(length=4):
        return CausalLMPolicy(*tiny_model("gpt_neox"), max_new_tokens=length) if length else None

    config = RunConfig.from_dict({**CONFIG, "policy": {"mine": {"length": 6}}})
    assert RunConfig.from_dict(config.to_dict()) == config
    assert make_policy(config).max_new_tokens == 6
    wrong = refusal(make_policy, RunConfig.from_dict({**CONFIG, "policy": {"mine": {"length": 0}}}))
    assert wrong.startswith("policy 'mine' made NoneType, expected a duelenv.policies.CausalLMPolicy")
    mistyped = refusal(make_policy, RunConfig.from_dict({**CONFIG, "policy": {"mine": {"lenght": 0}}}))
    assert "of the policy 'mine': did you mean 'length'?" in mistyped


@use("samplers")
def own_sampler(register):
    from duelenv.policies.samplers import sampler_of

    @register("mine")
    class Mine:
        def draw(self, policy, asked):
            raise NotImplementedError

    assert isinstance(sampler_of("mine"), Mine)


@use("sources of prompts")
def own_prompts(register):
    from duelenv.experiments.running.assembly import make_prompts

    @register("mine")
    def mine(count=1):
        return {"train": [f"prompt {number}" for number in range(count)], "test": ("held out",)}

    config = RunConfig.from_dict({**CONFIG, "prompts": {"mine": {"count": 2}}})
    assert make_prompts(config) == {"train": ["prompt 0", "prompt 1"], "test": ["held out"]}
    empty = refusal(make_prompts, RunConfig.from_dict({**CONFIG, "prompts": {"mine": {"count": 0}}}))
    assert empty.startswith("source of prompts 'mine' returned {'train': [], 'test': ('held out',)}, expected ")


@use("trackers")
def own_tracker(register):
    from duelenv.experiments import trackers

    @register("mine")
    class Mine:
        def __init__(self, place="here"):
            self.place = place

    assert trackers.make("mine", {"place": "there"}).place == "there"


@use("backends")
def own_backend(register):
    from duelenv.experiments.running.backends import open_backend

    @register("mine")
    @contextlib.contextmanager
    def mine(jobs, threads):
        with ThreadPoolExecutor(jobs) as executor:
            yield executor

    with open_backend("mine", {}, jobs=1, threads=1) as executor:
        assert executor.submit(lambda: 3).result() == 3


@pytest.mark.parametrize("title", TITLES)
def test_a_part_of_one_s_own_is_registered_by_a_decorator_and_used_by_its_name(title, monkeypatch):
    registry: Registry = REGISTRIES[title]
    monkeypatch.setattr(registry, "_parts", dict(registry._parts))
    before = registry.in_order()
    USES[title](registry.register)
    assert registry.in_order()[-1] == "mine"
    assert registry.in_order()[: len(before)] == before
    part = registry["mine"]
    assert registry.register("mine")(part) is part  # the same once more is no mistake, and the decorator returns it
    for taken in ("mine", *before[:1], *registry.reserved):
        refused = refusal(registry.register, taken, lambda: None)
        assert refused == f"{registry.kind} {taken!r} is registered already; choose another name"


@pytest.mark.parametrize("title", TITLES)
def test_an_unknown_name_is_told_the_nearest_and_where_one_s_own_go(title):
    registry: Registry = REGISTRIES[title]
    known = max(registry.known(), key=len)
    everything = f"choose from {', '.join(registry.known())}"
    near = refusal(registry.__getitem__, f"{known}z")
    assert near == f"{registry.kind} '{known}z' is unknown: did you mean {known!r}? ({everything}){TAIL}"
    assert refusal(registry.__getitem__, "0000") == f"{registry.kind} '0000' is unknown: {everything}{TAIL}"


def test_a_name_in_its_place_is_refused_by_the_same_sentence():
    from duelenv.experiments.config.worlds import world_class
    from duelenv.experiments.running.backends import open_backend
    from duelenv.oracles.matrices import make_matrix
    from duelenv.oracles.wrappers import wrapped
    from duelenv.worlds.encoders import read_features

    def config(**changes):
        return lambda name: RunConfig.from_dict({**CONFIG, **changes})

    for look_up, kind, given, meant in (
        (world_class, "world", "duelenv/FeatureDul-v0", "duelenv/FeatureDuel-v0"),
        (config(agents=["pasive"]), "agent", "pasive", "passive"),
        (config(policy={"toyy": {}}), "policy", "toyy", "toy"),
        (config(prompts={"lists": {}}), "source of prompts", "lists", "list"),
        (read_features, "encoder", "wrds", "words"),
        (lambda name: open_backend(name, {}, jobs=1, threads=1), "backend", "lokky", "loky"),
        (lambda name: gymnasium.make_vec(FEATURES, num_envs=1, link=name), "link", "probits", "probit"),
        (lambda name: gymnasium.make_vec(FEATURES, num_envs=1, utility=name), "utility", "linaer", "linear"),
        (make_matrix, "matrix", "cyclical", "cyclic"),
        (lambda name: wrapped(lambda *_: [], name, 0.1), "wrapper", "nois", "noise"),
    ):
        said = refusal(look_up, given)
        assert said.startswith(f"{kind} {given!r} is unknown: did you mean {meant!r}? (choose from ")
        assert said.endswith(TAIL)


def test_where_modules_are_named_an_unknown_policy_may_still_be_registered(tmp_path):
    (tmp_path / "mine.py").write_text("")
    config = RunConfig.from_dict({**CONFIG, "policy": {"later": {}}, "modules": [str(tmp_path / "mine.py")]})
    assert config.policy.name == "later"


def test_what_makes_no_wrapper_is_one_sentence(monkeypatch):
    from duelenv.oracles.wrappers import WRAPPERS

    monkeypatch.setattr(WRAPPERS, "_parts", dict(WRAPPERS._parts))
    WRAPPERS.register("mine", lambda inner, value: inner)
    said = refusal(lambda: duelenv.oracles.make("length", mine=1.0))
    assert said.startswith("wrapper 'mine' made Length, expected a Wrapper; derive it from ")


def test_an_oracle_s_own_setting_goes_before_a_wrapper_of_the_same_name(monkeypatch):
    from duelenv.oracles.base import ORACLES

    monkeypatch.setattr(ORACLES, "_parts", dict(ORACLES._parts))

    @ORACLES.register("mine")
    def mine(noise):
        return lambda prompts, first, second: np.full(len(prompts), noise)

    assert duelenv.oracles.make("mine", noise=0.9)(["p"], ["a"], ["b"]).tolist() == [0.9]
