"""An executor over workers that may never come: calls pass, or end with a sentence once there is no hope."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from duelenv.experiments.running.backends.watched import Watched
from duelenv.experiments.running.processes import NoWorkers, Task, outcomes


class Nowhere(ThreadPoolExecutor):
    """Takes calls and carries none out."""

    def __init__(self):
        super().__init__(1)
        self.taken = []

    def submit(self, fn, /, *args, **kwargs):
        self.taken.append(Future())
        return self.taken[-1]


def fails():
    raise ZeroDivisionError("why")


def test_calls_are_passed_on_with_what_they_return_and_raise():
    with ThreadPoolExecutor(2) as inner:
        executor = Watched(inner, lambda: None, seconds=0.01)
        assert executor.submit(divmod, 7, 2).result() == (3, 1)
        with pytest.raises(ZeroDivisionError, match="why"):
            executor.submit(fails).result()
        executor.shutdown()


def test_a_call_that_the_executor_cancels_is_cancelled():
    inner = Nowhere()
    executor = Watched(inner, lambda: None, seconds=1.0)
    given = executor.submit(divmod, 7, 2)
    inner.taken[0].cancel()
    assert given.cancelled()
    executor.shutdown()


def test_without_hope_all_calls_end_with_the_sentence_and_so_do_later_ones():
    hopeless = threading.Event()
    inner = Nowhere()
    executor = Watched(inner, lambda: "nobody comes" if hopeless.is_set() else None, seconds=0.01)
    first, second = executor.submit(divmod, 7, 2), executor.submit(divmod, 8, 2)
    assert not first.done()
    hopeless.set()
    for given in (first, second):
        with pytest.raises(NoWorkers, match="nobody comes"):
            given.result(timeout=10)
    with pytest.raises(NoWorkers, match="nobody comes"):
        executor.submit(divmod, 9, 2).result(timeout=0)
    assert len(inner.taken) == 2


def test_an_executor_that_takes_no_calls_any_more_is_no_exception_in_the_face_of_whoever_calls():
    class Closed(ThreadPoolExecutor):
        def submit(self, fn, /, *args, **kwargs):
            raise RuntimeError("the client\nis closed")

    for look, words in ((lambda: None, "^RuntimeError: the client is closed$"), (lambda: "it went away", "^it went")):
        executor = Watched(Closed(1), look, seconds=60.0)
        with pytest.raises(NoWorkers, match=words):
            executor.submit(divmod, 7, 2).result(timeout=0)
        executor.shutdown()


def test_once_shut_down_it_looks_no_more():
    looked = threading.Event()
    executor = Watched(Nowhere(), lambda: looked.set(), seconds=0.2)
    executor.shutdown()
    assert not looked.wait(0.5)


def test_tasks_without_a_worker_are_told_once_each_and_never_begun_again():
    executor = Watched(Nowhere(), lambda: "nobody comes", seconds=0.01)
    said = []
    ended = list(outcomes([Task(name, divmod, (7, 2)) for name in "abc"], executor, jobs=2, say=said.append))
    assert sorted((one.name, one.kind, one.message) for one in ended) == [
        (name, "unplaced", "nobody comes") for name in "abc"
    ]
    assert said == []
    executor.shutdown()
