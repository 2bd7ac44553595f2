"""What a run will ask, cost, and take in memory, disk and time, before anything is spent: `duelenv run --dry`.

Questions are counted from the settings, memory from the model's own sizes. Time is that of a few rounds and of one
evaluation of each agent, played here and now; an oracle that may be paid is not asked, a coin stands in for it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from duelenv.evaluation import evaluate
from duelenv.experiments.config.agent_settings import rows_asked
from duelenv.experiments.config.cell import cells
from duelenv.experiments.config.identity import check_owner, identify
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.results.metrics import check_better
from duelenv.experiments.running import assembly
from duelenv.experiments.running.backends import check_backend
from duelenv.experiments.running.preparation import prepare
from duelenv.experiments.running.scouting import check_metric, here_and_now
from duelenv.experiments.running.start_policy import start_policy, threads_of
from duelenv.experiments.sizing.memory import Footprint, bytes_text, footprint_of
from duelenv.oracles.base import utility_of
from duelenv.oracles.pricing import price_of
from duelenv.oracles.services.spending import Cost, most_of
from duelenv.oracles.sources import is_free

__all__ = ["Forecast", "dry_run", "duration", "forecast"]

#: Rounds of an agent are played for so many seconds, and at least one beside the first, in which things warm up.
_PROBE_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Forecast:
    """What each cell of one agent will take."""

    label: str
    rounds: int
    labels: int
    """Most labels of a seed: of all rows of every round, or of as many as the agent asks in."""
    questions: int
    """Most comparisons of a cell that evaluations put to a judge that may be paid."""
    evaluations: int
    round_seconds: float
    evaluation_seconds: float
    footprint: Footprint | None
    label_cost: Cost | None = None
    """The most that a label may cost, as a mean over the duels that were played; None where the oracle cannot say."""
    question_cost: Cost | None = None
    """The same of a comparison in evaluations."""

    @property
    def seconds(self) -> float:
        """Of a cell."""
        return self.rounds * self.round_seconds + self.evaluations * self.evaluation_seconds


def dry_run(config: RunConfig, directory: Path | str) -> str:
    """Say what a run will take.

    Args:
        config: The run.
        directory: Its run folder, in which finished cells are left out; it need not exist.

    Returns:
        A text of several lines.

    Raises:
        UserError: What the run itself would be refused for.
    """
    folder = RunFolder(Path(directory))
    check_better(config.metric, config.better)
    check_backend(config.backend.name, config.modules)
    check_owner(folder, config, identify(config))
    every = cells(config)
    todo = [cell for cell in every if not folder.cell(cell.name).finished]
    if not todo:
        return (
            f"{config.name}: all of its {len(every)} cells are finished in {str(folder.root)!r}, nothing is left to do"
        )
    with threads_of(config):
        _, free = prepare(config)
        if free:  # where answers may be paid for, the run itself finds out
            check_metric(config, folder, todo, here_and_now(config))
        labels = list(dict.fromkeys(cell.label for cell in todo))
        forecasts = {label: forecast(config, label) for label in labels}
    seeds = {label: sum(len(cell.seeds) for cell in todo if cell.label == label) for label in labels}
    played = {label: sum(cell.label == label for cell in todo) for label in labels}
    jobs = min(config.jobs or os.cpu_count() or 1, len(todo))
    finished = "" if len(todo) == len(every) else f" ({len(every) - len(todo)} of {len(every)} are finished)"
    lines = [
        f"{config.name}: {len(todo)} cells to play{finished}; nothing was asked, and nothing is written",
        "",
        *_table(list(forecasts.values()), seeds),
        "",
        *_asking(config, forecasts, seeds, played),
        *_memory(config, forecasts, played, jobs),
    ]
    seconds = sum(forecasts[label].seconds * played[label] for label in labels) / jobs
    apart = "" if free else ", without the time that who may be paid takes to answer"
    lines.append(_line("time", f"about {duration(seconds)} with {_at_a_time(jobs)}{apart}"))
    return "\n".join(lines)


# What is asked -------------------------------------------------------------------------------------------------------


def _asking(
    config: RunConfig, forecasts: dict[str, Forecast], seeds: dict[str, int], played: dict[str, int]
) -> list[str]:
    labels = sum(forecasts[label].labels * seeds[label] for label in forecasts)
    questions = sum(forecasts[label].questions * played[label] for label in forecasts)
    oracle, judge = assembly.make_oracle(config), _judge(config)
    paid = 0 if _is_free(oracle) and not price_of(oracle) else labels
    source = "the world itself" if config.oracle is None else f"the oracle {config.oracle.name!r}"
    lines = [
        _line("labels", f"{labels:,} at most, of {source}" + ("" if paid else ", which computes them for nothing"))
    ]
    if questions:
        lines.append(
            _line("evaluation", f"{questions:,} comparisons at most; equal texts and known ones are not asked")
        )
    if utility_of(oracle) is not None and not _is_free(oracle):
        lines.append(_line("regret", "asks for the scores of all that it compares besides, which is not counted here"))
    costs = [(paid, _price(oracle, config)), (questions, _price(judge, config))]
    paid += questions
    if config.budget.run is not None:
        lines.append(_line("fuse", f"{config.budget.run:,} answers of all kinds, then the run stops"))
        paid = min(paid, config.budget.run)
    most = _most(forecasts, seeds, played) if paid else None
    if most is not None:
        money = f" and {most.money:,.4g} in money" if most.money else ""
        lines.append(
            _line("tokens", f"{most.tokens:,}{money} at most, by the lengths of a few duels, every byte a token")
        )
    # Whoever says what their answers cost in tokens needs no price for each.
    lines += _cost([(count, price) for count, price in costs if count and not (most and price is None)], paid)
    limits = [f"{getattr(config.budget, name):,} in {name}" for name in ("money", "tokens") if _limit(config, name)]
    if limits:
        lines.append(_line("purse", f"{' and '.join(limits)}, then the run stops"))
    return lines


def _cost(costs: list[tuple[int, float | None]], paid: int) -> list[str]:
    """Say what answers cost, each kind at its price; no more than the fuse lets pass, the dearer ones first."""
    if not costs:
        return []
    if any(price is None for _, price in costs):
        return [_line("cost", "not known: give 'budget.price', what an answer costs")]
    left, total, said = paid, 0.0, []
    for count, price in sorted(costs, key=lambda pair: -(pair[1] or 0.0)):
        counted, price = min(count, left), price or 0.0
        left, total = left - counted, total + counted * price
        said += [(counted, price)] if counted else []
    if len({price for _, price in said}) == 1:
        said = [(paid, said[0][1])]
    answers = " and ".join(f"{count:,} answers at {price:g}" for count, price in said)
    return [_line("cost", f"{total:,.2f} at most, {answers} each")]


def _price(oracle: Any, config: RunConfig) -> float | None:
    """Find the most that an answer costs: by the oracle itself, or else by the config; None where neither says."""
    return price_of(oracle) or config.budget.price


def _limit(config: RunConfig, name: str) -> bool:
    return getattr(config.budget, name) is not None


def _most(forecasts: dict[str, Forecast], seeds: dict[str, int], played: dict[str, int]) -> Cost | None:
    """Sum the most that answers may cost by what their oracles themselves say; None where none of them can."""
    total = Cost()
    for label, one in forecasts.items():
        labels, questions = one.labels * seeds[label], one.questions * played[label]
        for cost, count in ((one.label_cost, labels), (one.question_cost, questions)):
            if cost is not None:
                total += Cost(cost.tokens * count, cost.money * count)
    return total if total.tokens else None


def _judge(config: RunConfig) -> Any:
    """Find who judges in evaluations."""
    return assembly.make_oracle(config, "oracle" if config.evaluation_oracle is None else "evaluation_oracle")


def _is_free(oracle: Any) -> bool:
    """Tell whether answers can be computed as often as one likes; anything else may be paid for."""
    return oracle is None or is_free(oracle)


# What it takes -------------------------------------------------------------------------------------------------------


def forecast(config: RunConfig, label: str) -> Forecast:
    """Count an agent's questions and play a few of its rounds; `prepare` has let the config pass."""
    policy = start_policy(config)
    stand_ins: dict[str, _StandIn] = {}

    def never_paid(key: str, oracle: Any) -> Any:
        return oracle if _is_free(oracle) else stand_ins.setdefault(key, _StandIn(oracle))

    env = assembly.make_environment(config.for_agent(label), policy=policy, wrap_oracle=never_paid)
    world = env.unwrapped
    try:
        agent = assembly.make_agent(config, label, env, config.seeds[0])
        footprint = None if policy is None else footprint_of(world.view(), agent, _prompts(config))
        round_seconds, evaluation_seconds = _probe(env, agent, config)
        chosen = config.agent(label)
        rows = rows_asked(chosen.name, world.view(), config.seeds[0], chosen.settings)
        horizon = int(world.horizon)
    finally:
        env.close()
    most = horizon * rows
    evaluations = 1 + -(-horizon // config.evaluate_every)
    evaluations += sum(bool(-(-count // rows) % config.evaluate_every) for count in config.report_at if count < most)
    splits = [config.split] + ["train"] * (config.save_models == "best" and config.split != "train")
    questions = 0
    if not _is_free(_judge(config)) and hasattr(world, "evaluation_questions"):
        # Before the first round the policy says what the start says, and nothing is asked.
        questions = (evaluations - 1) * sum(world.evaluation_questions(split) for split in splits)
    return Forecast(
        label=label,
        rounds=horizon,
        labels=most if config.budget.labels is None else min(most, config.budget.labels),
        questions=questions,
        evaluations=evaluations * len(splits),
        round_seconds=round_seconds,
        evaluation_seconds=evaluation_seconds,
        footprint=footprint,
        label_cost=_each(stand_ins.get("oracle")),
        question_cost=_each(stand_ins.get("oracle" if config.evaluation_oracle is None else "evaluation_oracle")),
    )


class _StandIn:
    """A coin in place of an oracle that may be paid; adds up what it would have cost at most, where that one knows."""

    def __init__(self, oracle: Any) -> None:
        self._oracle = oracle
        self.duels, self.cost = 0, Cost()
        self.known = True

    def __call__(self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str], /) -> Any:
        cost = most_of(self._oracle, prompts, first, second)
        self.known &= cost is not None
        self.duels, self.cost = self.duels + len(prompts), self.cost + (cost or Cost())
        return np.full(len(prompts), 0.5)


def _each(stand_in: _StandIn | None) -> Cost | None:
    """Find the most that a duel may cost."""
    if stand_in is None or not stand_in.known or not stand_in.duels:
        return None
    return Cost(-(-stand_in.cost.tokens // stand_in.duels), stand_in.cost.money / stand_in.duels)


def _probe(env: Any, agent: Any, config: RunConfig) -> tuple[float, float]:
    """Play some rounds and one evaluation; seconds of each."""
    observation, _ = env.reset(seed=config.seeds[0])
    times: list[float] = []
    begun = time.perf_counter()
    over = False
    while not over and (len(times) < 2 or time.perf_counter() - begun < _PROBE_SECONDS):
        before = time.perf_counter()
        actions = agent.act(observation)
        following, labels, _, truncated, info = env.step(actions)
        agent.update(observation, actions, labels, info["late"])
        times.append(time.perf_counter() - before)
        observation, over = following, bool(np.all(truncated))
    before = time.perf_counter()
    evaluate(env, agent, config.split)
    evaluation = time.perf_counter() - before
    return float(np.mean(times[1:] or times)), evaluation


def _prompts(config: RunConfig) -> list[str]:
    prompts = assembly.make_prompts(config)
    return [*prompts.get("train", []), *prompts.get("test", [])]


def _memory(config: RunConfig, forecasts: dict[str, Forecast], played: dict[str, int], jobs: int) -> list[str]:
    """Forecast memory and disk; nothing of worlds without a policy, where both are small."""
    footprints = {label: forecast.footprint for label, forecast in forecasts.items() if forecast.footprint is not None}
    if not footprints:
        return []
    largest = max(footprints.values(), key=lambda one: one.total)
    lines = [_line("memory", f"{bytes_text(largest.total)} a cell at its fullest, {_at_a_time(jobs)}")]
    lines += [_line("", f"{bytes_text(size):>9}  {name}") for name, size in largest.parts().items() if size]
    models = 0 if config.save_models == "none" else 1
    disk = sum(
        (footprints[label].checkpoint + models * footprints[label].model) * played[label] for label in footprints
    )
    left = "checkpoints" + (" and models" if models else "")
    lines.append(_line("disk", f"{bytes_text(disk)} for {left} of all cells"))
    return lines


def _table(forecasts: Sequence[Forecast], seeds: dict[str, int]) -> list[str]:
    width = max(len("agent"), *(len(one.label) for one in forecasts))
    titles = ("rounds", "labels a seed", "labels in all", "a round", "an evaluation", "a cell")
    lines = ["agent".ljust(width) + "".join(title.rjust(15) for title in titles)]
    for one in forecasts:
        columns = [f"{one.rounds:,}", f"{one.labels:,}", f"{one.labels * seeds[one.label]:,}"]
        columns += [duration(one.round_seconds), duration(one.evaluation_seconds), duration(one.seconds)]
        lines.append(one.label.ljust(width) + "".join(column.rjust(15) for column in columns))
    return lines


def _at_a_time(jobs: int) -> str:
    return f"{jobs} cell{'s' if jobs > 1 else ''} at a time"


def _line(name: str, text: str) -> str:
    return f"{name:<11}{text}"


def duration(seconds: float) -> str:
    """Write seconds as text, in the unit that suits them."""
    if seconds < 1.0:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 90:
        return f"{seconds:.3g} s"
    if seconds < 5400:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / 3600:.3g} h"
