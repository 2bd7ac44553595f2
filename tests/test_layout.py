"""`tests/` mirrors the packages: a test stands where its module stands; those of several modules are listed here."""

from __future__ import annotations

import pathlib

import pytest

TESTS = pathlib.Path(__file__).parent

#: Tests of no one module, and of what.
ACROSS = {
    "agents/test_growth.py": "memory of agents and worlds over many rounds",
    "agents/test_late_labels.py": "agents under labels that come late",
    "agents/test_rare_arm.py": "agents where the best response is rare",
    "duelenv/data/test_schemas.py": "tables as people keep them, through every loader",
    "duelenv/policies/test_families.py": "model families of transformers",
    "duelenv/test_contract.py": "all worlds",
    "duelenv/test_wrappers.py": "Gymnasium's wrappers around all worlds",
    "experiments/commands/test_docs.py": "commands that the documents name",
    "experiments/commands/test_looking.py": "commands that look at a stranger's run",
    "experiments/config/test_recorded_setting.py": "'env.recorded', from config to results",
    "experiments/efficiency/test_further.py": "a study's further worlds, from suite to table",
    "experiments/interactive/test_python_page.py": "docs/python.md",
    "experiments/labelling/test_label_browser.py": "the labelling page in Chromium",
    "experiments/labelling/test_label_page.py": "the labelling page over HTTP",
    "experiments/labelling/test_label_table.py": "`duelenv label` of a table, from command to export",
    "experiments/labelling/test_people_runs.py": "runs whose labels people give",
    "experiments/report/test_unfinished.py": "reports of runs that are not finished",
    "experiments/running/test_disturbed_runs.py": "whole runs with disturbed labels",
    "experiments/running/test_diverged_runs.py": "whole runs that diverge",
    "experiments/running/test_first_use.py": "whole runs with agents that are being written",
    "experiments/running/test_growth_of_runs.py": "memory of whole runs",
    "experiments/running/test_judged_runs.py": "whole runs with a paid judge",
    "experiments/running/test_matrix_setting.py": "'env.matrix', from config to results",
    "experiments/running/test_metric_unpaid.py": "whole runs whose purse is empty",
    "experiments/running/test_own_parts.py": "whole runs with parts of one's own",
    "experiments/running/test_recorded_runs.py": "whole runs answered out of a record",
    "experiments/running/test_sampler_setting.py": "'policy.sampler', from config to results",
    "experiments/running/test_served_run.py": "whole runs with a reward model behind an address",
    "experiments/running/test_suites.py": "every shipped suite, played small",
    "experiments/sizing/test_scaling_page.py": "docs/scaling.md",
    "experiments/sweeps/test_sb3_seeds.py": "sweeps and runs of a Stable-Baselines3 agent with several seeds",
    "experiments/trackers/test_clients.py": "trackers against the clients' own packages",
}


def subject_of(place: pathlib.PurePath) -> str | None:
    """The module or package that a test is about, by its name or the beginning of it; None where there is none.

    A long test is `test_MODULE_PART.py`; one of a whole package stands in its folder under the package's own name.
    """
    folder = TESTS.parent / place.parent
    names = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    words = place.stem.removeprefix("test_").split("_")
    beginnings = ("_".join(words[:count]) for count in range(len(words), 0, -1))
    return next((name for name in beginnings if name in names | {folder.name}), None)


def mirrored() -> list[pathlib.PurePath]:
    found = (path.relative_to(TESTS) for path in TESTS.glob("*/**/test_*.py"))
    return sorted(place for place in found if place.parts[0] not in ("docs", "examples", "support"))


@pytest.mark.parametrize("folder", sorted({place.parent.as_posix() for place in mirrored()}))
def test_a_folder_of_tests_is_a_package(folder: str) -> None:
    assert (TESTS.parent / folder / "__init__.py").exists()


def test_a_file_is_about_a_module_or_listed_with_what_it_is_about() -> None:
    places = mirrored()
    assert {place.as_posix() for place in places if subject_of(place) is None} == set(ACROSS)
    assert len(places) > 100


@pytest.mark.parametrize(
    ("place", "subject"),
    [
        ("agents/test_losses.py", "losses"),
        ("agents/test_set_losses.py", "set_losses"),
        ("agents/karmed/test_karmed_reference.py", "karmed"),
        ("experiments/results/test_labels_trl.py", "labels"),
        ("agents/test_loss.py", None),
        ("duelenv/test_losses.py", None),
    ],
)
def test_subjects_are_found_where_they_stand(place: str, subject: str | None) -> None:
    assert subject_of(pathlib.PurePath(place)) == subject
