"""NeMo Gym's `/compare`: its shapes, and what its scores mean here."""

from __future__ import annotations

import httpx
import pytest
from serving import Counting, served

from duelenv.experiments.serving.nemo_gym import scores
from duelenv.oracles import Answer


def response(text):
    return {
        "id": "r",
        "output": [
            {"type": "reasoning", "summary": []},
            {"type": "message", "content": [{"type": "output_text", "text": text, "annotations": []}]},
        ],
    }


def compare(url, *texts, **more):
    history = [{"role": "user", "content": "p"}]
    return httpx.post(
        url + "/compare",
        json={"conversation_history": history, "response_objs": [response(text) for text in texts], **more},
    )


def test_the_scales_have_their_ends_and_their_middle() -> None:
    assert scores(Answer("a", 1.0)) == (5.0, 1.0, 1.0)
    assert scores(Answer("a", 0.0)) == (1.0, 5.0, 6.0)
    assert scores(Answer("a", 0.5)) == scores(Answer("a", 0.0, tie=1.0)) == (3.0, 3.0, 3.5)


def test_each_response_is_compared_with_the_next_in_a_ring() -> None:
    oracle = Counting()
    with served(oracle) as url:
        said = compare(url, "aaa", "bb", "c").json()
    assert oracle.asked == [("p", "aaa", "bb"), ("p", "bb", "c"), ("p", "c", "aaa")]
    pairs = [(one["response_i"], one["response_j"], one["judge_idx"]) for one in said["comparison_results"]]
    assert pairs == [(0, 1, 0), (1, 2, 0), (2, 0, 0)]
    # 0.8 is worth 4.2 to the first and 1.8 to the second, 0.3 is worth 2.2 and 3.8.
    assert said["rewards"] == pytest.approx([(4.2 + 3.8) / 2, (1.8 + 4.2) / 2, (1.8 + 2.2) / 2])
    assert said["comparison_results"][0]["ranking"] == pytest.approx(2.0)
    assert said["metrics"]["mean_individual_score"] == pytest.approx(3.0)
    assert said["metrics"]["tiebreak_usage_rate"] == 0.0


def test_one_response_or_none_has_nobody_to_be_compared_with() -> None:
    with served(Counting()) as url:
        assert compare(url).json()["rewards"] == [] and compare(url, "a").json()["rewards"] == [3.0]


def test_a_comparison_without_an_answer_is_no_tie() -> None:
    with served(lambda p, a, b: [float("nan")] * len(p)) as url:
        assert compare(url, "a", "b").status_code == 503


@pytest.mark.parametrize(
    "more",
    [{"principle": "be kind"}, {"conversation_history": []}, {"response_objs": [{}, {}]}, {"response_objs": [1, 2]}],
)
def test_what_cannot_be_kept_to_is_refused(more) -> None:
    with served(Counting()) as url:
        answer = compare(url, "a", "b", **more)
    assert answer.status_code == 422 and isinstance(answer.json()["detail"], str)
