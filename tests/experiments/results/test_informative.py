"""Informative duels: by hand, by replicate, over a checkpoint, and against the word itself in a run."""

import numpy as np
import pyarrow.parquet as pq

from duelenv.experiments.config.loading import load
from duelenv.experiments.results.informative import InformativeDuels
from duelenv.experiments.results.measurements import Results
from duelenv.experiments.running.runner import run

NOBODY = np.nan


def told(gap: float) -> float:
    """Certainty of a duel between utilities that far apart."""
    return float(abs(2 / (1 + np.exp(-gap)) - 1))


def test_duels_of_two_logits_count_and_labels_are_numbered_by_row():
    counted = InformativeDuels(1)
    counted.add(np.array([told(1.9), NOBODY, told(-2.1)]))  # the second label
    counted.add(np.array([NOBODY, told(0), told(1)]))  # the third and fourth
    assert np.isnan(counted.figures()["third_informative_label"]).all()
    counted.add(np.array([told(3), told(4), told(5)]))  # the fifth to seventh
    figures = counted.figures()
    assert {name: value.tolist() for name, value in figures.items()} == {
        "informative_duels": [4.0],
        "first_informative_label": [2.0],
        "third_informative_label": [6.0],
    }


def test_replicates_are_counted_apart_and_a_checkpoint_goes_on():
    rounds = np.random.default_rng(0).uniform(0.5, 1.0, size=(20, 6))
    rounds[rounds < 0.6] = np.nan
    whole = InformativeDuels(3)
    for certainty in rounds:
        whole.add(certainty)
    for replicate in range(3):
        alone = InformativeDuels(1)
        for certainty in rounds[:10, 2 * replicate : 2 * replicate + 2]:
            alone.add(certainty)
        again = InformativeDuels(1)
        again.load_state_dict(alone.state_dict())
        for certainty in rounds[10:, 2 * replicate : 2 * replicate + 2]:
            again.add(certainty)
        for name, values in whole.figures().items():
            assert values[replicate] == again.figures()[name][0] > 0


def test_a_run_counts_the_duels_in_which_one_side_has_the_word(tmp_path):
    overrides = ["agents=[passive]", "seeds=1", "env.horizon=4", "evaluate_every=2", "oracle.word=again", "jobs=1"]
    run(load("demo", [*overrides, "save_models=none"]), tmp_path, progress=False)
    told = labels_of(tmp_path)
    numbers = [number for number, texts in enumerate(told, start=1) if sum("again" in text for text in texts) == 1]
    results = Results(tmp_path)
    assert len(numbers) > 3
    assert results.curve("passive", "informative_duels")[1].tolist() == [
        [sum(number <= labels for number in numbers) for labels in (0, 32, 64)]
    ]
    assert results.final("passive", "first_informative_label") == {1000: numbers[0]}
    assert results.final("passive", "third_informative_label") == {1000: numbers[2]}


def labels_of(directory):
    """Both responses of every label, in order."""
    log = pq.read_table(directory / "labels.parquet").sort_by([("step", "ascending"), ("row", "ascending")])
    return list(zip(log["first"].to_pylist(), log["second"].to_pylist(), strict=True))
