"""What stands behind a run's digits, in a line; and a caution as soon as it was not the same for all cells."""

import json

import pytest

from duelenv.experiments.config.cell import cells
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.folder.environment import add_start
from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.folder.machine import add_player
from duelenv.experiments.results.provenance import provenance_of

CONFIG = RunConfig.from_dict(
    {
        "name": "small",
        "env": {"id": "AlignmentDuel", "num_envs": 2, "horizon": 4},
        "policy": "toy",
        "prompts": "toy",
        "oracle": "length",
        "agents": ["passive", "thompson"],
        "seeds": 2,
    }
)
FACTS = {
    "processor": "Old One",
    "cores": 2,
    "torch_instructions": "AVX2",
    "blas_kernels": "openblas Haswell",
    "torch_threads": 1,
    "omp_num_threads": None,
    "blas_threads": 4,
    "python": "3.11.7",
    "versions": {"duelenv": "0.2", "torch": "2.8", "numpy": "2.2", "transformers": "5.0", "gymnasium": "1.2",
                 "scipy": "1.14", "joblib": "1.5"},
}  # fmt: skip


def run_folder(root, *changes):
    """A run whose cells were played on machines that differ from FACTS by these, one for each cell, in turn."""
    folder = RunFolder(root)
    for number, cell in enumerate(cells(CONFIG)):
        place = folder.cell(cell.name)
        place.path.mkdir(parents=True)
        add_player(place.players, FACTS | (changes[number % len(changes)] if changes else {}))
        place.seal([])
    return folder


def start(folder, monkeypatch, command=("/somewhere/bin/duelenv", "run", "a b.yaml"), **commits):
    monkeypatch.setattr("sys.argv", list(command))
    add_start(folder.environment, FACTS)
    last = json.loads(folder.environment.read_text())
    folder.environment.write_text(json.dumps({**last, "commit": None, "source_commit": None, **commits}))


def test_a_line_says_processor_threads_versions_commit_and_command(tmp_path, monkeypatch):
    folder = run_folder(tmp_path)
    start(folder, monkeypatch, source_commit="abcdef0123456789", source_dirty=True)
    found = provenance_of(folder, CONFIG)
    assert found.line() == (
        "Old One (2 cores, openblas Haswell, torch AVX2), threads: torch 1, OMP not set, BLAS 4; python 3.11.7, torch "
        "2.8, numpy 2.2, transformers 5.0, gymnasium 1.2, duelenv 0.2 (abcdef0, changed since); duelenv run 'a b.yaml'"
    )
    assert found.cautions() == []
    facts = json.loads(json.dumps(found.facts()))
    assert facts["machines"][0]["cells"] == 4
    assert facts["machines"][0]["versions"]["scipy"] == "1.14"
    assert facts["sources"] == [{"name": "abcdef0123456789", "dirty": True}]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"processor": "New One"}, "several processors (New One, Old One):"),
        ({"torch_threads": 2}, "several threads of torch (1, 2):"),
        ({"blas_kernels": "openblas SkylakeX"}, "several kernels of BLAS (openblas Haswell, openblas SkylakeX):"),
        ({"python": "3.12.1"}, "several versions of Python (3.11.7, 3.12.1):"),
        ({"versions": FACTS["versions"] | {"scipy": "1.17"}}, "several versions of scipy (1.14, 1.17):"),
        (
            {"torch_instructions": "AVX512", "versions": FACTS["versions"] | {"torch": "2.9"}},
            "several instructions of torch (AVX2, AVX512), versions of torch (2.8, 2.9):",
        ),
    ],
)
def test_what_was_mixed_is_named(tmp_path, change, said):
    (caution,) = provenance_of(run_folder(tmp_path, {}, change), CONFIG).cautions()
    assert said in caution


@pytest.mark.parametrize(
    "change",
    [
        {"cores": 64},  # as long as threads are as many
        {"torch_threads": None, "torch_instructions": None},  # a cell that needed no torch
        {"versions": FACTS["versions"] | {"joblib": "1.6"}},
    ],
)
def test_what_changes_no_digit_is_no_caution(tmp_path, change):
    assert provenance_of(run_folder(tmp_path, {}, change), CONFIG).cautions() == []


def test_a_cell_that_went_on_elsewhere_counts_for_both(tmp_path):
    folder = run_folder(tmp_path)
    add_player(folder.cell(cells(CONFIG)[0].name).players, FACTS | {"processor": "New One"})
    found = provenance_of(folder, CONFIG)
    assert [(machine.processor, count) for machine, count in found.machines] == [("Old One", 4), ("New One", 1)]
    assert len(found.cautions()) == 1


def test_cells_that_are_not_finished_have_no_part_in_the_table(tmp_path):
    folder = run_folder(tmp_path, {}, {"processor": "New One"})
    for cell in cells(CONFIG)[1::2]:
        folder.cell(cell.name).done.unlink()
    assert provenance_of(folder, CONFIG).cautions() == []


def test_starts_at_two_commits_are_a_caution_and_an_older_folder_has_its_starts(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    start(folder, monkeypatch, source_commit="a" * 40, source_dirty=False)
    assert provenance_of(folder, CONFIG).line().startswith("Old One (2 cores")
    start(folder, monkeypatch, source_commit="b" * 40, source_dirty=False, commit="c" * 40, dirty=None)
    found = provenance_of(folder, CONFIG)
    assert "several commits of duelenv (aaaaaaa; bbbbbbb)" in found.cautions()[0]
    assert "(bbbbbbb); in a repository at ccccccc, perhaps changed since; duelenv run" in found.line()


def test_a_notebook_has_no_command_and_an_empty_folder_no_line(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    assert provenance_of(folder, CONFIG).line() == ""
    start(folder, monkeypatch, ("/x/ipykernel_launcher.py", "-f", "/home/somebody/kernel-1.json"))
    assert provenance_of(folder, CONFIG).line().endswith("duelenv 0.2; from a notebook")


@pytest.mark.parametrize("change", [{"versions": 3}, {"processor": ["x"]}, {"versions": {"torch": {}}, "cores": "y"}])
def test_whatever_a_strangers_folder_says_is_text(tmp_path, change):
    found = provenance_of(run_folder(tmp_path, {}, change), CONFIG)
    assert isinstance(found.line(), str) and all(isinstance(one, str) for one in found.cautions())
