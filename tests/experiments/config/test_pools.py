"""Several pools in one run: cells, tables and curves of their own, nothing mixed, known by what the files hold."""

import json

import numpy as np
import pytest

from duelenv.experiments.commands.cli import main
from duelenv.experiments.config.cell import cells
from duelenv.experiments.config.loading import load
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.figures import plots
from duelenv.experiments.report.page import write_report
from duelenv.experiments.results.measurements import Results
from duelenv.experiments.running.assembly import make_environment
from duelenv.experiments.running.runner import run
from duelenv.experiments.tables.groups import group_agents
from duelenv.ground.errors import UserError


def write_pool(path, scale, prompts=12, responses=4):
    """A pool whose longer responses are better, by `scale` a word, but for noise."""
    generator = np.random.default_rng(int(10 * scale))
    rows = []
    for prompt in range(prompts):
        for response, words in enumerate(generator.permutation(3 * responses)[:responses].tolist()):
            text = f"answer {response}" + " word" * words
            rows.append(
                {"prompt": f"question {prompt}?", "response": text, "score": scale * (words + 5 * generator.normal())}
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def settings(data, **changes):
    return {
        "name": "pools",
        "env": {"id": "PoolDuel", "horizon": 6, "dim": 4},
        "data": data,
        "agents": ["passive", "thompson"],
        "seeds": 3,
        "evaluate_every": 3,
        "jobs": 1,
        **changes,
    }


@pytest.fixture
def pools(tmp_path):
    return [write_pool(tmp_path / "data" / f"{name}.jsonl", scale) for name, scale in (("a", 1.0), ("b", 0.5))]


# Settings ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["list", "mapping", "settings"])
def test_every_agent_meets_every_pool_in_a_cell_of_its_own(pools, form):
    a, b = pools
    data = {"list": [a, b], "mapping": {"a": a, "b": b}, "settings": {"a": {"path": a}, "b": b}}[form]
    config = RunConfig.from_dict(settings(data))
    assert [cell.label for cell in cells(config)] == ["passive-a", "thompson-a", "passive-b", "thompson-b"]
    assert [config.for_agent(f"thompson-{name}").data for name in "ab"] == [{"path": a}, {"path": b}]
    assert config.baseline == "passive-a" and "data" not in config.for_agent("passive-b").env.settings
    assert RunConfig.from_dict(config.to_dict()) == config


def test_one_table_is_what_it_was(pools):
    config = RunConfig.from_dict(settings({"path": pools[0], "score": "score"}))
    assert config.data == {"path": pools[0], "score": "score"} and config.baseline == "passive"
    with pytest.raises(UserError, match="'data' has no 'path'"):
        RunConfig.from_dict(settings({"score": "rating"}))


def test_files_of_one_name_are_told_apart_by_their_folders_or_refused(tmp_path):
    listed = [write_pool(tmp_path / folder / "pool.jsonl", 1.0) for folder in ("first-half", "other")]
    labels = [agent.label for agent in RunConfig.from_dict(settings(listed)).agents]
    assert labels == ["passive-first_half", "thompson-first_half", "passive-other", "thompson-other"]
    with pytest.raises(UserError, match="name the pools, as in data="):
        RunConfig.from_dict(settings([listed[0], listed[0]]))


def test_pools_are_crossed_with_variants_and_the_baseline_may_be_any_agent(pools):
    variants = {"narrow": {"dim": 2}, "wide": {"dim": 6}}
    config = RunConfig.from_dict(settings(pools, variants=variants, baseline="thompson"))
    assert [agent.label for agent in config.agents][2:4] == ["passive-a+wide", "thompson-a+wide"]
    own = config.for_agent("passive-b+wide")
    assert (own.data, own.env.settings["dim"], config.baseline) == ({"path": pools[1]}, 6, "thompson-a+narrow")
    with pytest.raises(UserError, match="both name pools"):
        RunConfig.from_dict(settings(pools, variants={"c": {"data": pools[0]}}))


@pytest.mark.parametrize("data", [[], [3], ["a"], [["a.jsonl"]]])
def test_a_list_of_no_tables_is_one_sentence(data):
    with pytest.raises(UserError, match="expected the paths of tables"):
        RunConfig.from_dict(settings(data))


def test_agents_of_different_pools_are_never_compared(pools):
    agents = {"passive": {}, "thompson": {"env": {"data": pools[1]}}}
    with pytest.raises(UserError, match="'thompson' plays on a pool of its own, where the baseline 'passive'"):
        RunConfig.from_dict(settings(pools[0], agents=agents))


def test_an_agents_own_pool_takes_the_place_of_the_shared_one(pools):
    agents = {"passive": {}, "elsewhere": {"name": "passive", "env": {"data": pools[1]}}}
    config = RunConfig.from_dict(settings(pools[0], agents=agents))
    assert [config.for_agent(label).data["path"] for label in agents] == pools
    misplaced = RunConfig.from_dict(settings(None, env={"id": "PoolDuel", "data": pools[0]}))
    with pytest.raises(UserError, match=r"'env\.data' is set in the wrong place"):
        make_environment(misplaced.for_agent("passive"))


def test_relative_paths_start_from_the_file_wherever_they_stand(tmp_path):
    file = tmp_path / "own.yaml"
    given = settings(["a.jsonl", "b.jsonl"], agents={"passive": {}, "real": {"env": {"features": "f.npy"}}})
    file.write_text(json.dumps(given))
    config = load(file)
    assert config.agent("passive-b").env["data"] == {"path": str(tmp_path / "b.jsonl")}
    assert config.agent("real-a").env["features"] == str(tmp_path / "f.npy")
    file.write_text(json.dumps(settings(None, variants={"c": {"data": "c.jsonl"}})))
    assert load(file).agent("passive-c").env["data"] == {"path": str(tmp_path / "c.jsonl")}


# Results -------------------------------------------------------------------------------------------------------------


def test_each_pool_gives_what_it_gives_alone_and_has_its_own_table_and_panel(tmp_path, pools, capsys):
    assert main(["run", written(tmp_path, settings(pools)), "--output", str(tmp_path / "both")]) == 0
    printed = capsys.readouterr().out
    both = Results(tmp_path / "both")
    assert [(group.title, group.names, group.baseline) for group in group_agents(both)] == [
        ("a", ("passive", "thompson"), "passive-a"),
        ("b", ("passive", "thompson"), "passive-b"),
    ]
    for name, path in zip("ab", pools, strict=True):
        run(RunConfig.from_dict(settings(path)), tmp_path / name)
        write_report(tmp_path / name)
        alone = Results(tmp_path / name)
        assert both.references([f"passive-{name}"]) == alone.references(["passive"])
        for agent in ("passive", "thompson"):
            for metric in ("simple_regret", "regret_average"):
                np.testing.assert_array_equal(both.curve(f"{agent}-{name}", metric)[1], alone.curve(agent, metric)[1])
        table = (tmp_path / "both" / f"table-{name}.md").read_text()
        assert without_time(table) == without_time((tmp_path / name / "table.md").read_text())
        assert f"\n{name}\n" in printed and "(fit on all pairs)" in table
    assert not (tmp_path / "both" / "table.md").exists()
    assert both.references(["passive-a"]) != both.references(["passive-b"])
    panels = plots.metric_against_labels(both, "simple_regret").axes
    assert [axes.get_title(loc="left") for axes in panels] == ["a", "b"]
    for name, axes in zip("ab", panels, strict=True):
        heights = {float(height) for line in axes.lines for height in np.unique(line.get_ydata())}
        assert {np.mean([*rule.values()]) for rule in both.references([f"passive-{name}"]).values()} <= heights
    page = (tmp_path / "both" / "report.html").read_text()
    assert "<summary>a</summary>" in page and "a.jsonl, b.jsonl" in page


def written(folder, given):
    path = folder / "config.yaml"
    path.write_text(json.dumps(given))
    return str(path)


def without_time(table):
    return [line.split(" | ")[:-1] for line in table.splitlines()]


def test_a_run_is_known_by_what_every_pool_holds(tmp_path, pools):
    config = RunConfig.from_dict(settings(pools))
    run(config, tmp_path / "run")
    write_pool(tmp_path / "data" / "b.jsonl", 2.0)
    with pytest.raises(UserError, match=r"'agents\[passive-b\]\.env\.data\.path' holds something else"):
        run(config, tmp_path / "run")
