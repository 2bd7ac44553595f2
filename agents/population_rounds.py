"""What a teaching rule teaches on average over all rounds that may come, where the responses can be listed.

With M responses and K candidates there are M^K rounds, and more where the pair is drawn as well. They stand side by
side as rows of one observation, each with its probability; the rule is run on them as it is on any other round, and
what it teaches is weighed. Of a rule and a belief that draw nothing by themselves this is exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from duelenv.agents.base import SettingsReader
from duelenv.agents.beliefs.base import Belief
from duelenv.agents.losses import PreferenceLoss
from duelenv.agents.population import Listed, every_draw, preference_losses
from duelenv.agents.roles import Duels, Played, Ranked, Select, Sets, equal_texts
from duelenv.agents.selection import may_duel
from duelenv.agents.teaching import Resources, make_teaching
from duelenv.core import AgentView, Observation
from duelenv.exact import Responses
from duelenv.ground.errors import UserError
from duelenv.policies.roles import Role

MOST_ROUNDS: Final = 1_000_000


@dataclass(frozen=True)
class Rounds:
    """All rounds that may come to a prompt, D of them, as rows of one observation.

    Attributes:
        view: That of a world with D rows.
        observation: `prompt`, `responses`, `tokens`, `mask`, `source` and `features` of every round.
        arms: Which of the M responses each candidate is, int64 [D, K].
        groups: Candidates with the same text share a number, int64 [D, K].
        pairs: Who duels, int64 [D, 2].
        probability: Of each round, float64 [D]; they add up to 1.
        asked: Whether the duels are put to the oracle, or are those of rows of a selective world that nobody asks.
    """

    view: AgentView
    observation: Observation
    arms: NDArray[np.int64]
    groups: NDArray[np.int64]
    pairs: NDArray[np.int64]
    probability: NDArray[np.float64]
    asked: bool = True

    def __len__(self) -> int:
        return len(self.probability)

    @classmethod
    def of(
        cls,
        view: AgentView,
        prompt: str,
        responses: Responses,
        features: NDArray[np.floating[Any]],
        select: Select | None = None,
    ) -> Rounds:
        """List the rounds of a world with a policy that can be listed.

        Args:
            view: The world's; its policy draws as it stands now.
            prompt: The prompt.
            responses: All M responses of the policy.
            features: Of each response, [M, d].
            select: Chooses the pairs, and draws nothing: every round has one. None chooses all pairs that may duel
                alike, as `uniform_pair` does: every round comes with each of them.

        Raises:
            UserError: The world has no policy or another temperature than 1, candidates come from what is no model of
                its own, or the rounds are more than a million.
        """
        if view.policy is None or view.temperature != 1.0:
            raise UserError(
                f"{view.world} with temperature {view.temperature} has no responses whose probability is that of a "
                "listed one; take AlignmentDuel with temperature=1"
            )
        laws, sources = [], []
        for number, (source, count) in enumerate(zip(view.sources, view.source_counts, strict=True)):
            if source not in get_args(Role):
                raise UserError(
                    f"candidates come from {source!r}, and only those of {', '.join(get_args(Role))} are listed with "
                    "their probability; leave it out of sources"
                )
            tokens, mask = responses.tokens[np.newaxis], responses.mask[np.newaxis]
            law = np.exp(view.policy.score([prompt], tokens, mask, source=cast(Role, source))[0].astype(np.float64))
            laws += [law / law.sum()] * count  # of rounded log-probs
            sources += [number] * count
        _refuse_many(len(responses), view.num_candidates, all_pairs=select is None)
        arms, probability = every_draw(laws)
        shown = partial(cls._shown, view, prompt, responses, np.asarray(features), np.array(sources, np.int8))
        rounds = shown(arms, probability)
        if select is not None:
            return replace(rounds, pairs=Ranked.of(select(rounds.observation, rounds.groups)).pairs)
        rows, first, second = np.nonzero(may_duel(rounds.groups))
        of_each = shown(arms[rows], (probability / np.bincount(rows))[rows])
        return replace(of_each, pairs=np.stack([first, second], axis=1))

    @classmethod
    def _shown(
        cls,
        view: AgentView,
        prompt: str,
        responses: Responses,
        features: NDArray[np.floating[Any]],
        sources: NDArray[np.int8],
        arms: NDArray[np.int64],
        probability: NDArray[np.float64],
    ) -> Rounds:
        count = len(arms)
        view = replace(view, num_envs=count, batch=count, scalar=False)
        observation = {
            "prompt": np.full(count, prompt, dtype=object),
            "responses": responses.texts[arms],
            "tokens": responses.tokens[arms],
            "mask": responses.mask[arms],
            "source": np.tile(sources, (count, 1)),
            "features": features[arms],
        }
        groups = equal_texts(view, observation)
        assert groups is not None
        return cls(view, observation, arms, groups, np.zeros((count, 2), np.int64), probability)

    def select(self, observation: Observation, groups: NDArray[np.int64] | None) -> NDArray[np.int64]:
        """Return the pairs, as the agent's own choice of them: what `mixed` asks for."""
        return self.pairs


@dataclass(frozen=True)
class Taught:
    """What a rule teaches on average.

    Attributes:
        loss: Mean over rounds of what a learner of one row minimises: the mean over the pairs or sets that the round
            teaches, 0 where it teaches none. A scalar, differentiable in `Listed.log_prob`.
        share: Probability of a round that teaches something. A learner of N rows of this prompt takes the mean over
            those that do, and moves by loss / share * (1 - (1 - share)^N).
    """

    loss: Tensor
    share: float


def expected_teaching(
    rule: str,
    rounds: Rounds,
    listed: Listed,
    belief: Belief,
    loss: PreferenceLoss,
    settings: Mapping[str, Any] | None = None,
) -> Taught:
    """Return what a teaching rule teaches on average over all rounds, by the rule itself and the loss it is taught by.

    Args:
        rule: Its name in `TEACHING`.
        rounds: All that may come.
        listed: The M responses.
        belief: Says what the rule teaches. One that draws is asked once in every round: exact for what it drew.
        loss: Of a rule that teaches pairs; sets bring their own.
        settings: Of the rule.

    Raises:
        UserError: No such rule, one that teaches nothing besides the labels, or a setting that it does not know.
    """
    reader = SettingsReader(rule, settings or {})
    teach = make_teaching(rule, Resources(rounds.view, belief, rounds.select), reader, unasked=not rounds.asked)
    reader.close()
    if teach is None:
        raise UserError(f"teaching rule {rule!r} teaches the labels alone; their mean is expected_loss")
    count = len(rounds)
    duels = Duels(np.arange(count), rounds.pairs, np.full(count, np.nan))
    taught = teach(Played(rounds.observation, rounds.groups, duels, np.full(count, not rounds.asked)))
    return _of_sets(taught, rounds, listed) if isinstance(taught, Sets) else _of_duels(taught, rounds, listed, loss)


def _of_sets(taught: Sets, rounds: Rounds, listed: Listed) -> Taught:
    columns = torch.as_tensor(rounds.arms[taught.rows[:, np.newaxis], taught.arms])
    log_prob = listed.log_prob[columns]
    reference = listed.reference_log_prob[columns] if taught.loss.needs_reference else None
    losses = taught.loss(log_prob, reference, torch.as_tensor(taught.values).to(log_prob))
    return _weighed(losses, taught.rows, np.ones(len(taught)), rounds)


def _of_duels(taught: Duels, rounds: Rounds, listed: Listed, loss: PreferenceLoss) -> Taught:
    if loss.needs_mismatched:
        raise UserError(
            f"{type(loss).__name__} compares a pair with those of other prompts, and these are rounds of one; take "
            "another loss"
        )
    taught = taught.labelled()
    places = taught.rows[:, np.newaxis], taught.pairs
    columns = rounds.arms[places]
    # Either outcome by its probability: losses are linear in the label.
    won, lost = (preference_losses(loss, listed, columns, label) for label in (1.0, 0.0))
    label = torch.as_tensor(taught.labels).to(won)
    groups = rounds.groups[places]
    return _weighed(label * won + (1 - label) * lost, taught.rows, groups[:, 0] != groups[:, 1], rounds)


def _weighed(losses: Tensor, rows: NDArray[np.int64], counts: NDArray[Any], rounds: Rounds) -> Taught:
    """Weigh losses by their rounds' probability; where `counts` is 0, two equal texts, one is in the mean alone."""
    of_round = np.bincount(rows, minlength=len(rounds))
    weight = rounds.probability[rows] / of_round[rows] * counts
    return Taught((torch.as_tensor(weight).to(losses) * losses).sum(), float(rounds.probability[of_round > 0].sum()))


def _refuse_many(responses: int, candidates: int, *, all_pairs: bool) -> None:
    count = responses**candidates * (candidates * (candidates - 1) if all_pairs else 1)
    if count > MOST_ROUNDS:
        raise UserError(
            f"{responses} responses and {candidates} candidates make {count:.3g} rounds, at most {MOST_ROUNDS:,} can "
            "be listed; take fewer candidates, or a policy with fewer responses"
        )
