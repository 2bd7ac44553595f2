"""No completed label is lost, doubled or invented, whoever dies: runs are killed, damaged and starved of space."""

import os
import sys
from collections import Counter
from dataclasses import replace

import pytest

from duelenv import UserError
from duelenv.experiments.faults.bench import FaultLine, bench_faults, fault_table
from duelenv.experiments.faults.record import Death, Peace, Tally, count_labels, digest_of, read_record

linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
SEED = int(os.environ.get("DUELENV_FAULTS_SEED", "0"))


def check(lines, least):
    """Nothing is wrong anywhere, and so many faults were tried."""
    lines = list(lines)
    wrong = [f"{line.fault}: {sentence}" for line in lines for sentence in line.tally.wrong]
    said = f"with DUELENV_FAULTS_SEED={SEED}:\n" + "\n".join([*wrong, fault_table(lines)])
    assert not wrong, said
    for line in lines:
        tally = line.tally
        assert (tally.lost, tally.doubled, tally.invented) == (0, 0, 0), said
        # A batch of four for each kill and worker, and not more.
        assert tally.in_flight <= tally.asked_again <= 4 * 2 * tally.faults, said
    assert sum(line.tally.faults for line in lines) >= least, said


@pytest.mark.slow
@linux
def test_no_label_is_lost_doubled_or_invented_whoever_is_killed():
    check(bench_faults(kills=12, seed=SEED, two_jobs=0.25, damages=0, writes=0), 12)


@pytest.mark.slow
@linux
def test_damage_and_a_full_disk_are_healed_or_refused_in_one_sentence():
    check(bench_faults(kills=0, seed=SEED, damages=5, writes=1), 5 + 6)


@linux
@pytest.mark.slow
@pytest.mark.exhaustive
def test_three_hundred_kills():
    check(bench_faults(kills=300, seed=SEED, damages=0, writes=0), 300)


@linux
@pytest.mark.slow
@pytest.mark.exhaustive
def test_every_file_of_a_run_damaged_in_every_way_and_every_call_failing():
    check(bench_faults(kills=0, seed=SEED, damages=None, writes=None), 100)


def test_a_number_of_kills_that_is_none_is_refused():
    with pytest.raises(UserError, match="'kills' is -1"):
        next(bench_faults(kills=-1))


# The harness itself: it would see what it looks for.

TEXTS = [("p", "a", "b"), ("p", "b", "c"), ("q", "a", "c"), ("q", "c", "d")]
BATCHES = [tuple(digest_of(*texts) for texts in TEXTS[:2]), tuple(digest_of(*texts) for texts in TEXTS[2:])]


def labels(texts=TEXTS):
    return {
        **{name: [one[place] for one in texts] for place, name in enumerate(("prompt", "first", "second"))},
        "label": [1.0] * len(texts),
    }


def counted(tmp_path, lines, deaths=(), texts=TEXTS):
    """The tally of a record: a word, a process (session 7 for x, 8 for y), a time and the number of a batch each."""
    record = tmp_path / "record"
    sessions = {"x": 7, "y": 8}
    record.write_text(
        "".join(
            f"{word} {life} 9 {sessions[life]} {time} {' '.join(BATCHES[batch])}\n" for word, life, time, batch in lines
        )
    )
    asked = Counter(digest for batch in BATCHES for digest in batch)
    tally = Tally()
    peace = Peace({}, labels(), asked, Counter(BATCHES))
    count_labels(tally, read_record(record), labels(texts), peace, deaths)
    return replace(tally, wrong=[])


PEACE = [("asked", "x", 1.0, 0), ("answered", "x", 1.1, 0), ("asked", "x", 1.2, 1), ("answered", "x", 1.3, 1)]


def test_peace_counts_nothing(tmp_path):
    assert counted(tmp_path, PEACE) == Tally()


def test_an_answer_without_a_label_is_lost(tmp_path):
    assert counted(tmp_path, PEACE, texts=TEXTS[:3]) == Tally(lost=1)


def test_a_label_without_an_answer_is_invented(tmp_path):
    assert counted(tmp_path, PEACE, texts=[*TEXTS, TEXTS[0]]) == Tally(invented=1)
    assert counted(tmp_path, PEACE, texts=[*TEXTS[:3], ("q", "c", "e")]) == Tally(invented=1, lost=1)


def test_a_batch_that_was_killed_in_the_call_is_asked_again_and_not_doubled(tmp_path):
    lines = [*PEACE[:3], ("asked", "y", 2.0, 1), ("answered", "y", 2.1, 1)]
    assert counted(tmp_path, lines, [Death(7, 1.25, 1.25)]) == Tally(asked_again=2)


def test_a_batch_that_was_answered_just_before_the_kill_was_in_flight(tmp_path):
    again = [*PEACE, ("asked", "y", 2.0, 1), ("answered", "y", 2.1, 1)]
    assert counted(tmp_path, again, [Death(7, 1.31, 1.31)]) == Tally(asked_again=2, in_flight=2)
    # Nobody was killed, or long after it, or elsewhere: then it was paid twice.
    for deaths in ([], [Death(7, 2.5, 2.5)], [Death(9, 1.31, 1.31)]):
        assert counted(tmp_path, again, deaths) == Tally(asked_again=2, doubled=2)
    # An earlier answer of a process that went on was written down, or should have been.
    first = [*PEACE, ("asked", "y", 2.0, 0), ("answered", "y", 2.1, 0)]
    assert counted(tmp_path, first, [Death(7, 1.31, 1.31)]) == Tally(asked_again=2, doubled=2)


def test_the_table_adds_up_and_comes_as_markdown_too():
    lines = [FaultLine("SIGKILL", Tally(faults=2, survived=2)), FaultLine("a file emptied", Tally(faults=1, refused=1))]
    *_, total = [line for line in fault_table(lines).splitlines() if line.startswith("all")]
    assert total.split() == ["all", "3", "2", "1", "0", "0", "0", "0", "0", "0"]
    assert "| all | 3 | 2 | 1 | 0 | 0 | 0 | 0 | 0 | 0 |" in fault_table(lines, markdown=True)
