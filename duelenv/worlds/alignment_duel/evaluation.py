"""The judging of a live policy and of what an agent recommends and believes; no duels, and no query of an agent's."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from duelenv.actions import recommended_arms
from duelenv.calibration import BeliefCheck
from duelenv.core import SPLITS, Recommender
from duelenv.exact import ExactTruth
from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.ground.randomness import RowStreams
from duelenv.labels.path import LabelPath
from duelenv.observation import LazyObservation
from duelenv.oracles.base import Oracle, UtilityOracle, utility_of
from duelenv.oracles.links import link
from duelenv.oracles.sources import Source, answers_later, at_once_or_later
from duelenv.worlds.alignment_duel.candidates import Candidates, Context, Strings, draw_candidates, observe
from duelenv.worlds.alignment_duel.comparator import Comparator
from duelenv.worlds.encoders import Block

if TYPE_CHECKING:
    from duelenv.policies.causal_lm import CausalLMPolicy


class AlignmentEvaluation:
    """Judges a policy on prompts of each split, by token draws that are the same at every call.

    Args:
        policy: The live policy, which keeps the start policy.
        prompts: By split.
        judge: Says what is preferred, at once; None leaves win rates out.
        comparator: The judge's utility; None where it has none.
        labels: Puts questions to the judge.
        num_candidates: K, responses to each prompt.
        temperature: Sampling temperature; None takes the policy's own.
        features: As in `duelenv.worlds.alignment_duel.AlignmentDuelVectorEnv`.
        exact: Judges the policy by all of its responses; None where they are too many, or nobody asked.
    """

    def __init__(
        self,
        policy: CausalLMPolicy,
        prompts: Mapping[str, Strings],
        judge: Oracle | None,
        comparator: Comparator | None,
        labels: LabelPath,
        *,
        num_candidates: int,
        temperature: float | None,
        features: Sequence[Block],
        exact: ExactTruth | None = None,
    ) -> None:
        self._exact = exact
        self._policy = policy
        self._prompts = prompts
        self._judge = judge
        self._comparator = comparator
        self._labels = labels
        self._count = num_candidates
        self._temperature = temperature
        self._features = features
        self._root: int | None = None
        self._start: dict[str, Candidates] = {}  # what the start policy said and is worth, by split: it never changes
        self._start_utilities: dict[str, NDArray[np.float64]] = {}

    def redraw(self, root: int) -> None:
        """Take all token draws from the streams of `root` from now on."""
        self._root = root
        self._start.clear()
        self._start_utilities.clear()

    def evaluate(self, agent: Recommender, split: str, number: int) -> dict[str, NDArray[np.float64]]:
        """See `duelenv.worlds.alignment_duel.AlignmentDuelVectorEnv.evaluate`.

        Args:
            agent: Recommends, and may believe.
            split: A key of `prompts`.
            number: The round that comes next.
        """
        new, old = self.responses(split)
        shown = observe(Context.of(new), self._policy, self._features)
        arms = recommended_arms(agent, shown, len(new.prompts), self._count)
        metrics: dict[str, float] = {}
        beliefs: dict[str, NDArray[np.float64]] = {}
        utilities = None if self._comparator is None else self._comparator.utility(new.prompts, new.responses)
        if self._judge is not None:
            metrics |= self._win_rates(self._judge, split, new, old, arms, utilities, number)
        if self._exact is None:
            metrics["kl"] = self._kl(split, new)
        else:
            figures = self._exact.figures(self._prompts[split].tolist())
            metrics |= {item.name: float(getattr(figures, item.name).mean()) for item in fields(figures)}
        metrics["response_tokens"] = float(new.mask.sum(axis=2).mean())
        if self._comparator is not None and utilities is not None:
            beliefs = self._belief_metrics(agent, split, shown, utilities, self._comparator)
            gap = self._comparator.best(new.prompts) - utilities[np.arange(len(arms)), arms]
            metrics |= {"utility": float(utilities.mean()), "simple_regret": float(gap.mean())}
        return {name: np.array([value]) for name, value in metrics.items()} | beliefs

    def examples(self, split: str, count: int) -> list[dict[str, str]]:
        """See `duelenv.worlds.alignment_duel.AlignmentDuelVectorEnv.examples`."""
        new, old = self.responses(split)
        columns = zip(new.prompts, old[:, 0], new.responses[:, 0], strict=True)
        return [{"prompt": prompt, "before": before, "after": after} for prompt, before, after in list(columns)[:count]]

    def questions(self, split: str) -> int:
        """Return how many comparisons one evaluation may put to a judge that may be paid; 0 where it is free.

        Equal texts and comparisons that a ledger knows are not put, so that it may be fewer.
        """
        return len(self._prompts[split]) * self._count if self._judge is not None and self._judge_costs else 0

    # Responses -------------------------------------------------------------------------------------------------------

    def responses(self, split: str) -> tuple[Candidates, Strings]:
        """Return K responses of the policy and of the start policy to each of P prompts, under the same draws."""
        checks.one_of("split", split, SPLITS)
        if split not in self._start:
            self._start[split] = self._draw(split, "start", self._temperature)
        return self._draw(split, "policy", self._temperature), self._start[split].responses

    def _draw(self, split: str, source: str, temperature: float | None) -> Candidates:
        if self._root is None:
            raise UserError("there is nothing to evaluate before the first reset; call reset(seed=...) first")
        prompts = self._prompts[split]
        streams = RowStreams(self._root, f"evaluate/{split}", len(prompts))
        uniforms = streams.uniform(self._count, self._policy.max_new_tokens)
        return draw_candidates(self._policy, prompts, uniforms, {source: self._count}, temperature)

    def _start_utility(self, split: str, comparator: Comparator) -> NDArray[np.float64]:
        """Return the utility of the start policy's responses, [P, K]."""
        if split not in self._start_utilities:
            drawn = self._start[split]
            self._start_utilities[split] = comparator.utility(drawn.prompts, drawn.responses)
        return self._start_utilities[split]

    def _kl(self, split: str, new: Candidates) -> float:
        """Return the mean of log policy - log start over responses of the policy at temperature 1."""
        sampled_at = self._policy.temperature if self._temperature is None else self._temperature
        drawn = new if sampled_at == 1 else self._draw(split, "policy", temperature=1.0)
        start = self._policy.score(list(drawn.prompts), drawn.tokens, drawn.mask, source="start")
        return float((drawn.log_prob - start).mean(dtype=np.float64))

    # Win rates -------------------------------------------------------------------------------------------------------

    def _win_rates(
        self,
        judge: Oracle,
        split: str,
        new: Candidates,
        old: Strings,
        arms: NDArray[np.int64],
        utilities: NDArray[np.float64] | None,
        number: int,
    ) -> dict[str, float]:
        """Return how often the policy's responses, and the recommended ones, beat those of the start policy."""
        rows = np.arange(len(arms))
        rivals = self._rivals(new.responses, old)  # (K, J)
        chosen = rivals[arms][:, np.newaxis]  # (P, 1, J)
        everyone = np.broadcast_to(rivals, (len(rows), *rivals.shape))  # (P, K, J)
        if isinstance(judge, UtilityOracle) and self._comparator is not None and utilities is not None:
            # Its preferences follow from utilities, and are not asked for.
            probability, start = link(judge.link), self._start_utility(split, self._comparator)
            wins = _wins_by_utility(probability, utilities, start, everyone)
            best_wins = _wins_by_utility(probability, utilities[rows, arms][:, np.newaxis], start, chosen)
        else:
            recommended = new.responses[rows, arms][:, np.newaxis]
            wins = self._asked_wins(judge, new.prompts, new.responses, old, everyone, number)
            best_wins = self._asked_wins(judge, new.prompts, recommended, old, chosen, number)
        metrics = {"win_rate": _mean(wins), "win_rate_best_of_n": _mean(best_wins)}
        if self._judge_costs:
            metrics["unanswered"] = float(np.isnan(wins).sum() + np.isnan(best_wins).sum())
            metrics["evaluation_queries"] = float(self._labels.evaluation_queries)
        return metrics

    def _rivals(self, new: Strings, old: Strings) -> NDArray[np.int64]:
        """Return which responses of the start policy the new ones of each column are compared with, columns [K, J].

        New and old responses of one column share their token draws, and say the same where little was learnt: what
        counts is how two independent ones compare. Where nothing was learnt at all that is half, and not asked.
        """
        if not self._judge_costs:
            return np.broadcast_to(np.arange(self._count), (self._count, self._count))
        following = 0 if np.array_equal(new, old) else 1
        return (np.arange(self._count)[:, np.newaxis] + following) % self._count

    def _asked_wins(
        self, judge: Oracle, prompts: Strings, new: Strings, old: Strings, rivals: NDArray[np.int64], number: int
    ) -> NDArray[np.float64]:
        """Return P(new > old) of responses [P, M] against columns `rivals` [P, M, J] of `old` [P, K], as [P, M, J].

        NaN where the judge declined; 1/2 where the texts are equal, unasked.
        """
        asked = np.broadcast_to(prompts[:, np.newaxis, np.newaxis], rivals.shape).ravel()
        mine = np.broadcast_to(new[:, :, np.newaxis], rivals.shape).ravel()
        theirs = old[np.arange(len(old))[:, np.newaxis, np.newaxis], rivals].ravel()
        wins = np.full(rivals.size, 0.5)
        differ = np.flatnonzero(mine != theirs)
        if len(differ):
            triples = (asked[differ].tolist(), mine[differ].tolist(), theirs[differ].tolist())
            wins[differ] = self._labels.judge(judge, number, triples, costs=self._judge_costs).expected_label
        return wins.reshape(rivals.shape)

    @property
    def _judge_costs(self) -> bool:
        """Whether the judge's answers are counted: a utility can be computed again, anything else may be paid for."""
        return utility_of(self._judge) is None

    # Beliefs ---------------------------------------------------------------------------------------------------------

    def _belief_metrics(
        self,
        agent: Recommender,
        split: str,
        shown: LazyObservation,
        utilities: NDArray[np.float64],
        comparator: Comparator,
    ) -> dict[str, NDArray[np.float64]]:
        """Measure how sure an agent's belief is, on what its duels show and off it; nothing where it has none."""
        probability = link(comparator.truth.link)
        own, off = BeliefCheck(agent, probability), BeliefCheck(agent, probability)
        if own.add(shown, utilities):
            kept = replace(self._start[split], version=self._policy.version)  # whoever asks means the policy of now
            start = observe(Context.of(kept, self._policy), self._policy, self._features)
            off.add(start, self._start_utility(split, comparator))
        return own.metrics() | off.metrics("_off")


def judge_of(oracle: Oracle | Source, evaluation_oracle: Oracle | None) -> Oracle | None:
    """Return who judges in `evaluate`; None, with a warning, where there is nobody who answers at once."""
    if evaluation_oracle is not None:
        if answers_later(evaluation_oracle):
            raise UserError(
                f"evaluation_oracle is {str(evaluation_oracle)[:60]!r}, which answers later, and evaluate needs "
                "answers at once; give a function (prompts, first, second) -> probabilities"
            )
        return evaluation_oracle
    truth, (at_once, _) = utility_of(oracle), at_once_or_later(oracle)
    if truth is not None or at_once is not None:
        return truth or at_once
    warnings.warn(
        "the oracle answers later and has no utility: evaluate leaves out win_rate and win_rate_best_of_n, unless "
        "evaluation_oracle is given",
        stacklevel=3,
    )
    return None


def _wins_by_utility(
    probability: Callable[..., Any], own: NDArray[np.float64], others: NDArray[np.float64], rivals: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return P(new > old) of utilities [P, M] against columns `rivals` [P, M, J] of `others` [P, K], as [P, M, J]."""
    against = others[np.arange(len(others))[:, np.newaxis, np.newaxis], rivals]
    return np.asarray(probability(own[:, :, np.newaxis] - against), np.float64)


def _mean(wins: NDArray[np.float64]) -> float:
    """Return the mean over what was answered; NaN where nothing was."""
    answered = wins[~np.isnan(wins)]
    return float(answered.mean()) if len(answered) else float("nan")
