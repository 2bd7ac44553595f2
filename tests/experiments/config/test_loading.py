"""Config files, suites and overrides: what they become, and one sentence for what cannot be read."""

from pathlib import Path

import pytest
import yaml

from duelenv import UserError
from duelenv.experiments.config.loading import apply_override, load, parse_yaml, read_study_file, suites
from duelenv.experiments.config.run_config import RunConfig

BASE = {
    "name": "test",
    "env": {"id": "FeatureDuel", "horizon": 5},
    "agents": {"passive": {}, "fast": {"name": "thompson"}},
}


@pytest.mark.parametrize("suite", sorted(name for name in suites() if read_study_file(name) is None))
def test_every_suite_loads_and_reads_back_equal(suite):
    config = load(suite, ["data=pool.parquet"] if suite == "pool" else [])
    again = RunConfig.from_dict(yaml.safe_load(yaml.safe_dump(config.to_dict(), sort_keys=False)))
    assert again == config
    assert again.identity() == config.identity()


def test_overrides():
    raw = yaml.safe_load(yaml.safe_dump(BASE))
    for override in ("seeds=4", "env.horizon=20", "agents.fast.num_samples=3", "oracle.name=length", "agents.real={}"):
        apply_override(raw, override)
    config = RunConfig.from_dict(raw)
    assert len(config.seeds) == 4
    assert config.env.settings["horizon"] == 20
    assert config.agent("fast").settings == {"num_samples": 3}
    assert config.agent("real").name == "real"
    assert config.oracle is not None and config.oracle.name == "length"
    assert BASE["env"]["horizon"] == 5


def test_overrides_reach_into_short_spellings():
    raw = {"name": "x", "env": "FeatureDuel", "oracle": "length", "agents": ["passive", "real"], "policy": "toy"}
    for override in ("env.horizon=3", "oracle.scale=2", "agents.real.belief=ensemble", "policy.toy.seed=4"):
        apply_override(raw, override)
    assert raw["env"] == {"id": "FeatureDuel", "horizon": 3}
    assert raw["oracle"] == {"name": "length", "scale": 2}
    assert raw["agents"] == {"passive": None, "real": {"belief": "ensemble"}}
    assert raw["policy"] == {"toy": {"seed": 4}}


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("seeds", "not key=value"),
        ("=3", "not key=value"),
        ("sed=3", "did you mean 'seeds'"),
        ("evn.horizon=3", "did you mean 'env'"),
        ("seeds.count=3", "single value"),
        ("agents.fats.gamma=1", "did you mean 'fast'"),
        ("env.horizon.more=1", "'env.horizon' is 5"),
        ("env..x=1", "empty part"),
        ("seeds=[1", "not valid YAML"),
        ("env={id: FeatureDuel, horizon: 20, horizon: 30}", "'horizon' twice"),
    ],
)
def test_a_wrong_override_is_one_sentence(override, named):
    with pytest.raises(UserError, match=named):
        apply_override(yaml.safe_load(yaml.safe_dump(BASE)), override)


VARIANTS = {
    **BASE,
    "variants": {"d10": {"dim": 10}, "flip": {"stages": ["delay", {"name": "flip", "probability": 0.2}]}},
}


def test_overrides_reach_into_lists_and_change_only_copies():
    raw = yaml.safe_load(yaml.safe_dump(VARIANTS))
    before = raw["variants"]
    apply_override(raw, "variants.flip.stages.1.probability=0.1")
    apply_override(raw, "env.changes=[0.25, 0.5]")
    apply_override(raw, "env.changes.0=0.3")
    assert raw["variants"]["flip"] == {"stages": ["delay", {"name": "flip", "probability": 0.1}]}
    assert raw["env"]["changes"] == [0.3, 0.5]
    assert before == VARIANTS["variants"]


def test_a_variant_is_added_as_a_whole():
    raw = yaml.safe_load(yaml.safe_dump(VARIANTS))
    for override in (
        "variants.new={dim: 4}",
        "variants.new.horizon=7",
        "variants.d20={dim: 20}",
        "variants.flip.dim=3",
    ):
        apply_override(raw, override)
    assert list(raw["variants"]) == ["d10", "flip", "new", "d20"]
    assert raw["variants"]["new"] == {"dim": 4, "horizon": 7}
    apply_override(raw := {"env": "FeatureDuel"}, "variants.small.dim=2")
    assert raw["variants"] == {"small": {"dim": 2}}


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("variants.flips.dim=2", r"no variant is named 'flips', did you mean 'flip'\?.* written in the file"),
        ("variants.flips={dim: 2}", r"did you mean 'flip'\?"),
        ("variants.other.dim=2", "choose from d10, flip; a new one is given as a whole"),
        ("variants.other=2", "given as a whole, 'variants.other={...}'"),
        ("variants.other.matrix={name: x}", "given as a whole, 'variants.other={...}'"),
        ("variants.d20.dim=20", "given as a whole, 'variants.d20={...}'"),
        (
            "variants.flip.stages.2.name=x",
            "'variants.flip.stages' is a list of 2, write a number from 0 to 1 in place of",
        ),
        ("variants.flip.stages.-1.name=x", "in place of '-1'"),
        ("variants.flip.stages.flip.name=x", "in place of 'flip'"),
        ("variants.flip.stages.0.name=x", "'variants.flip.stages.0' is 'delay' and has nothing inside"),
    ],
)
def test_a_slip_below_variants_is_one_sentence(override, named):
    with pytest.raises(UserError, match=named) as refused:
        apply_override(yaml.safe_load(yaml.safe_dump(VARIANTS)), override)
    assert "\n" not in str(refused.value)


def test_an_override_does_not_hide_an_agent_that_is_named_twice():
    with pytest.raises(UserError, match="names 'real' 2 times"):
        apply_override({"agents": ["real", "real"]}, "agents.real.gamma=1")


def test_a_key_that_stands_twice_is_named(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump(BASE) + "name: other\n")
    with pytest.raises(UserError, match=r"own.yaml' has the key 'name' twice \(again in line \d+\)"):
        load(file)
    merged = parse_yaml("a: &a {x: 1}\nb: &b {<<: *a, x: 2}\nc: {<<: *b, y: 3}")
    assert merged["c"] == {"x": 2, "y": 3}  # a merged key is there to be replaced


def test_paths_start_from_the_file_or_from_the_current_directory(tmp_path, monkeypatch):
    folder = tmp_path / "configs"
    folder.mkdir()
    file = folder / "own.yaml"
    file.write_text(yaml.safe_dump({**BASE, "data": "table.parquet", "env": {"id": "MatrixDuel", "matrix": "p.npy"}}))
    monkeypatch.chdir(tmp_path)
    config = load(file)
    assert config.data == {"path": str(folder / "table.parquet")}
    assert config.env.settings["matrix"] == str(folder / "p.npy")
    config = load(file, ["data=table.parquet", "env.matrix=p.npy"])
    assert config.data == {"path": str(tmp_path / "table.parquet")}
    assert config.env.settings["matrix"] == str(tmp_path / "p.npy")


def test_a_blank_path_in_a_file_is_refused_and_a_written_config_keeps_its_paths(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump({**BASE, "data": ""}))
    with pytest.raises(UserError, match=r"'data.path' is ''"):
        load(file)
    written = RunConfig.from_dict({**BASE, "prompts": {"path": "lines.txt"}}).to_dict()
    assert written["prompts"] == {"path": {"path": str(Path.cwd() / "lines.txt")}}
    written["prompts"]["path"]["path"] = "lines.txt"  # by hand, in the form of a written config
    file.write_text(yaml.safe_dump(written))
    assert load(file).prompts.settings == {"path": str(tmp_path / "lines.txt")}


def test_files_that_are_no_config(tmp_path):
    with pytest.raises(UserError, match="did you mean 'demo'"):
        load("dmo")
    file = tmp_path / "x.yaml"
    file.write_text("a: [1")
    with pytest.raises(UserError, match="not valid YAML"):
        load(file)
    file.write_text("- 1")
    with pytest.raises(UserError, match="mapping of settings"):
        load(file)


def test_a_run_directory_is_no_config_and_its_own_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("tiny", "demo", "empty"):
        Path(name).mkdir()
    for name in ("tiny", "demo"):
        Path(name, "config.yaml").write_text(yaml.safe_dump(BASE))
    with pytest.raises(
        UserError, match=r"'tiny' is a run directory.*: write 'tiny/config\.yaml', with '--output tiny'"
    ):
        load("tiny")
    with pytest.raises(UserError, match="'empty' is a directory, expected a config file or a suite"):
        load("empty")
    assert load("tiny/config.yaml").name == "test"
    assert load("demo").name == "demo"  # the suite, in whatever folder


def test_agents_as_one_word_have_no_settings_of_their_own():
    with pytest.raises(UserError, match="'agents' is 'passive', expected a mapping"):
        apply_override({"agents": "passive"}, "agents.passive.gamma=1")


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 1e-3), ("-2E5", -2e5), ("1.5e-7", 1.5e-7), ("1.0e-3", 1e-3), ("3", 3), ("e3", "e3")]
)
def test_numbers_are_read_as_people_write_them(text, value):
    assert parse_yaml(text) == value


def test_short_spellings_of_a_file_are_those_of_its_mapping(tmp_path):
    """A path alone is one that starts from the file's folder, and the name is the file's."""
    env = {"id": "AlignmentDuel", "horizon": 2}
    short = {"env": env, "agents": ["passive"], "policy": "base", "prompts": "some.txt", "oracle": "length"}
    long = short | {"policy": {"path": "base"}, "prompts": {"path": "some.txt"}, "name": "mine"}
    (tmp_path / "base").mkdir()
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(short), encoding="utf-8")
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(long), encoding="utf-8")
    config = load(tmp_path / "mine.yaml")
    assert config == load(tmp_path / "other.yaml")
    assert config.name == "mine"
    assert config.policy is not None and config.policy.settings == {"path": str(tmp_path / "base")}
    assert config.prompts is not None and config.prompts.settings == {"path": str(tmp_path / "some.txt")}
    toy = load(tmp_path / "mine.yaml", ["policy=toy"])
    assert toy.policy is not None and toy.policy.name == "toy"
    apply_override(raw := dict(short), "prompts.limit=3")
    assert raw["prompts"] == {"path": "some.txt", "limit": 3}


def test_aliases_that_stand_for_too_much_are_refused(tmp_path):
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]  # 10^9 values in 9 lines
    assert parse_yaml("\n".join(levels[:4]))["a3"][9][9][9][9] == "x"
    for text in ("\n".join(levels), "a: &a [*a]", "[" * 5000 + "]" * 5000):
        (tmp_path / "bomb.yaml").write_text(text)
        with pytest.raises(UserError, match="is not valid YAML"):
            load(tmp_path / "bomb.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"is empty, expected a mapping of settings; write lines such as 'agents: \[passive\]'"),
        ("[1, 2]", r"holds \[1, 2\], expected a mapping of settings"),
        (
            "name: x\nenv:\n\tid: y\n",
            r"is not valid YAML \(line 3: found character '\\t' that cannot start any token\)",
        ),
    ],
)
def test_a_file_that_is_no_config_says_why(tmp_path, text, said):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UserError, match=said):
        load(tmp_path / "c.yaml")


def test_a_config_that_is_not_utf8_is_told_where(tmp_path):
    (tmp_path / "c.yaml").write_bytes("name: café\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"is not UTF-8 text \(byte 10\), which a config is: save it as UTF-8"):
        load(tmp_path / "c.yaml")


def test_tags_of_python_are_no_values(tmp_path):
    (tmp_path / "code.yaml").write_text("name: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(UserError, match="is not valid YAML"):
        load(tmp_path / "code.yaml")


def test_a_list_of_seeds_replaces_a_count_and_its_first_seed():
    assert load("demo", ["seeds=[3, 5]"]).seeds == (3, 5)
    assert load("demo", ["first_seed=3", "seeds=2"]).seeds == (3, 4)
    assert load("demo", ["seeds=2"]).seeds == (1000, 1001)
    with pytest.raises(UserError, match="'first_seed' goes with a count"):  # both are the user's
        load("demo", ["first_seed=3", "seeds=[1]"])


@pytest.mark.parametrize(
    ("override", "section", "name", "settings"),
    [
        ("policy.path=gpt", "policy", "path", {"path": "gpt"}),
        ("prompts.path=mine.jsonl", "prompts", "path", {"path": str(Path("mine.jsonl").resolve())}),
        ("prompts.list={train: [a], test: [b]}", "prompts", "list", {"train": ["a"], "test": ["b"]}),
        ("policy.toy.seed=3", "policy", "toy", {"seed": 3}),
    ],
)
def test_a_source_replaces_the_suite_s(override, section, name, settings):
    chosen = getattr(load("demo", [override]), section)
    assert (chosen.name, chosen.settings) == (name, settings)


@pytest.mark.parametrize(
    ("override", "place"),
    [
        ("horizon=3", "'env.horizon'"),
        ("num_envs=3", "'env.num_envs'"),
        ("word=cat", "'oracle.word'"),
        ("price=1", "'budget.price'"),
        ("seed=1", "one of 'policy.toy.seed', 'prompts.toy.seed'"),
        ("toy=1", "one of 'policy.toy', 'prompts.toy'"),
        ("objective=mean", None),
        ("teach=mean", "'agents.random_taught.teach'"),
        ("policy.device=cpu", "'policy.toy.device'"),
        ("prompts.train=3", "'prompts.toy.train'"),
    ],
)
def test_a_setting_one_level_off_is_told_its_place(override, place):
    with pytest.raises(UserError, match="Unknown setting") as refused:
        load("demo", [override])
    assert str(refused.value).endswith(f"write {place}") is (place is not None)


def test_a_key_of_a_file_one_level_off_is_told_its_place():
    with pytest.raises(UserError, match=r"'horizon': it stands a level lower; write 'env\.horizon'"):
        RunConfig.from_dict({**BASE, "horizon": 3})


def test_a_setting_of_a_world_that_a_module_registers_is_told_its_place():
    with pytest.raises(UserError, match=r"'horizon': it stands a level lower; write 'env\.horizon'"):
        load("exact", ["horizon=3"])


def test_the_sentence_about_a_config_runs_none_of_its_modules(tmp_path):
    module = tmp_path / "mine.py"
    module.write_text("import pathlib\npathlib.Path(__file__).with_name('ran').touch()\n")
    with pytest.raises(UserError, match="'horizon'"):
        RunConfig.from_dict({**BASE, "env": "Mine", "modules": [str(module)], "horizon": 3})
    assert not (tmp_path / "ran").exists()
