"""One cell of a run: one agent in one environment, from the first round to the last, able to stop anywhere.

Not for deciding which cells there are, nor for running several: that is `duelenv.experiments.runner`. A cell writes
only in its own folder: `answers.jsonl` and `labels.jsonl` as it goes, `checkpoint.npz` now and then, and at the end
`labels.parquet`, `examples.json`, `references.json` and `result.parquet`, whose presence marks it as finished.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duelenv.experiments import assembly, checkpoints
from duelenv.experiments.config import RunConfig
from duelenv.experiments.journal import Journal, LabelLog, labels_table
from duelenv.experiments.metrics import is_measured
from duelenv.oracles.base import utility_of
from duelenv.oracles.sources import answers_later

#: Where the answers of the oracles go, in a cell's folder.
_JOURNALS = {"oracle": "answers.jsonl", "evaluation_oracle": "judgements.jsonl"}

__all__ = ["Cell", "CellReport", "cells", "run_cell", "scout_cell"]

#: Seconds between two writings of a cell's progress file.
_PROGRESS_SECONDS = 0.5
#: A checkpoint may cost this share of the run's time: a slow one is written less often.
_CHECKPOINT_SHARE = 0.05


@dataclass(frozen=True)
class Cell:
    """One agent with one seed, or with all seeds as replicates of one environment."""

    label: str
    """Label of the agent."""
    seeds: tuple[int, ...]
    """The seed, or one per replicate."""

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.label}-seed{self.seeds[0]}" if len(self.seeds) == 1 else f"{self.label}-seeds{len(self.seeds)}"


@dataclass(frozen=True)
class CellReport:
    """What the runner is told of a finished cell."""

    cell: Cell
    seconds: float
    """Time of the rounds, without evaluation."""
    figure: str
    """The metric that matters, as text."""


def cells(config: RunConfig) -> list[Cell]:
    """All cells of a run; seeds go round slowest, so that every agent is tried early."""
    if config.replicated:
        return [Cell(agent.label, config.seeds) for agent in config.agents]
    return [Cell(agent.label, (seed,)) for seed in config.seeds for agent in config.agents]


def run_cell(config: RunConfig, cell: Cell, folder: Path) -> CellReport:
    """Runs a cell, from its checkpoint if it has one, and writes its results.

    Args:
        config: The run.
        cell: Which part of it.
        folder: The cell's own folder.

    Returns:
        A short report for progress lines.

    Raises:
        UserError: A setting that a world, an oracle, a policy or an agent refuses.
    """
    assembly.load_modules(config.modules)
    with _threads(config):
        return _Run(config, cell, folder).finish()


def scout_cell(config: RunConfig, cell: Cell, folder: Path) -> tuple[str, ...]:
    """Plays a cell until the config's `metric` shows up, at most to its first record of played rounds.

    A cell that came as far as that keeps a checkpoint there; before it, a few rounds are played again, with the answers
    of oracles kept.

    Args:
        config: The run, with a `metric`.
        cell: Which part of it.
        folder: The cell's own folder.

    Returns:
        Names of what was measured.

    Raises:
        UserError: A setting that a world, an oracle, a policy or an agent refuses.
    """
    assembly.load_modules(config.modules)
    with _threads(config):
        return _Run(config, cell, folder).scout()


@contextmanager
def _threads(config: RunConfig) -> Iterator[None]:
    """Limits torch's threads for the time of a cell, where the cell needs torch."""
    if config.policy is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


#: The start policy of the last config in this process: a worker runs many cells of one run.
_start_policy: dict[str, Any] = {}


def start_policy(config: RunConfig) -> Any:
    """A fresh copy of the start policy, or None in a world without one."""
    if config.policy is None:
        return None
    key = json.dumps([config.policy.name, dict(config.policy.settings)], sort_keys=True, default=str)
    if key not in _start_policy:
        _start_policy.clear()
        _start_policy[key] = assembly.make_policy(config)
    return _start_policy[key].clone()


class _Run:
    """The state of a cell while it runs."""

    def __init__(self, config: RunConfig, cell: Cell, folder: Path) -> None:
        self.config = config
        self.cell = cell
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(".*.tmp"):  # of a process that was killed while it wrote
            leftover.unlink()
        self.journals: dict[str, Journal] = {}
        self.policy = start_policy(config)
        own = config.for_agent(cell.label)
        self.env: Any = assembly.make_environment(own, policy=self.policy, wrap_oracle=self._wrap)
        self.truth = self.env.unwrapped
        self.agent: Any = assembly.make_agent(config, cell.label, self.env, cell.seeds[0])
        self.replicates: int = self.truth.view().replicates
        self.step = 0
        self.seconds = 0.0
        self.queries = np.zeros(self.replicates, dtype=np.int64)
        self.regret: dict[str, NDArray[np.float64]] = {}
        # Means of what `update` returned since the last evaluation: sum and count by name.
        self.sums: dict[str, NDArray[np.float64]] = {}
        self.counts: dict[str, NDArray[np.int64]] = {}
        self.records: list[dict[str, Any]] = []
        self.over = False
        checkpoint = folder / "checkpoint.npz"
        if checkpoint.exists():
            self.observation = self._restore(checkpoints.load(checkpoint))
        else:
            self.log = self._open_log(0)
            self.observation, info = self.env.reset(seed=cell.seeds[0])
            self.queries = self._queries(info)
            self._evaluate()

    def _wrap(self, key: str, oracle: Any) -> Any:
        """Puts a journal before an oracle, unless it only judges and costs nothing to ask again, or keeps a record.

        A source that answers later knows requests by their id, and answers those it answered before from its record.
        """
        if answers_later(oracle) or (key == "evaluation_oracle" and utility_of(oracle) is not None):
            return oracle
        self.journals[key] = Journal(oracle, self.folder / _JOURNALS[key])
        return self.journals[key]

    def _open_log(self, length: int) -> LabelLog | None:
        texts = "responses" in self.truth.view().observation_space.spaces
        wanted = texts if self.config.label_log is None else self.config.label_log
        return LabelLog(self.folder / "labels.jsonl", length) if wanted else None

    # The loop --------------------------------------------------------------------------------------

    def finish(self) -> CellReport:
        """Plays the rounds that are left and writes the results."""
        try:
            saved = shown = time.monotonic()
            pause = self.config.checkpoint_seconds
            self._show_progress()
            while not self.over:
                self._round()
                now = time.monotonic()
                if now - shown >= _PROGRESS_SECONDS:
                    self._show_progress()
                    shown = now
                if now - saved >= pause and not self.over:
                    self._save()
                    saved = time.monotonic()
                    pause = max(self.config.checkpoint_seconds, (saved - now) / _CHECKPOINT_SHARE)
            self._show_progress()
            self._save()
            self._write_results()
        finally:
            self._close()
        return CellReport(self.cell, self.seconds, self._figure())

    def scout(self) -> tuple[str, ...]:
        """Plays until the metric shows up, at most to the first record of played rounds; what was measured by then."""
        assert self.config.metric is not None
        try:
            played = False
            while not (self.over or len(self.records) > 1 or is_measured(self.config.metric, self._measured())):
                self._round()
                played = True
            if played and len(self.records) > 1:
                self._save()
        finally:
            self._close()
        return self._measured()

    def _measured(self) -> tuple[str, ...]:
        """Names of all figures so far, in records or on the way to one."""
        names = [name for record in self.records for name in record]
        names += [*self.sums, *(f"regret_{name}" for name in self.regret)]
        return tuple(name for name in dict.fromkeys(names) if name != "step")

    def _close(self) -> None:
        self.env.close()
        for stream in (*self.journals.values(), self.log):
            if stream is not None:
                stream.close()

    def _round(self) -> None:
        started = time.perf_counter()
        observation = self.observation
        actions = self.agent.act(observation)
        self.observation, labels, _, truncated, info = self.env.step(actions)
        if self.log is not None:
            self.log.write(self.step + 1, observation, np.asarray(actions), np.asarray(labels), info["late"])
        learnt = self.agent.update(observation, actions, labels, info["late"])
        self.seconds += time.perf_counter() - started
        self.step += 1
        self.queries = self._queries(info)
        for name, values in info.get("regret", {}).items():
            total = np.asarray(values, dtype=np.float64).reshape(self.replicates, -1).sum(axis=1)
            self.regret[name] = self.regret.get(name, 0.0) + total
        for metrics in (learnt, {"duel_certainty": self._mean_of(info["certainty"])}):
            self._add(metrics or {})
        self.over = bool(np.all(truncated))
        if self.over or self.step % self.config.evaluate_every == 0:
            self._evaluate()

    def _add(self, metrics: Mapping[str, Any]) -> None:
        """Adds figures to the means of the next record."""
        for name, value in metrics.items():
            figures = np.broadcast_to(np.asarray(value, dtype=np.float64), (self.replicates,))
            known = ~np.isnan(figures)
            self.sums[name] = self.sums.get(name, 0.0) + np.where(known, figures, 0.0)
            self.counts[name] = self.counts.get(name, 0) + known.astype(np.int64)

    def _mean_of(self, rows: Any) -> NDArray[np.float64]:
        """The mean of a figure of every row, by replicate; rows that were not asked have none."""
        values = np.asarray(rows, dtype=np.float64).reshape(self.replicates, -1)
        known = ~np.isnan(values)
        total = np.where(known, values, 0.0).sum(axis=1)
        return np.divide(total, known.sum(axis=1), out=np.full(self.replicates, np.nan), where=known.any(axis=1))

    def _queries(self, info: Mapping[str, Any]) -> NDArray[np.int64]:
        return np.broadcast_to(np.asarray(info["queries"], dtype=np.int64), (self.replicates,)).copy()

    def _evaluate(self) -> None:
        """Adds a record of the agent as it stands after `step` rounds."""
        measured = self.truth.evaluate(self.agent, self.config.split)
        means = {
            name: np.divide(total, self.counts[name], out=np.full(self.replicates, np.nan), where=self.counts[name] > 0)
            for name, total in self.sums.items()
        }
        self.sums, self.counts = {}, {}
        self.records.append(
            {
                **means,  # first: what the runner and the world measure wins over an agent's own figure of that name
                "step": self.step,
                "queries": self.queries.copy(),
                "gradient_steps": int(getattr(self.agent, "gradient_steps", 0)),
                "seconds": self.seconds,
                **{f"regret_{name}": total.copy() for name, total in self.regret.items()},
                **{name: np.asarray(values, dtype=np.float64) for name, values in measured.items()},
            }
        )

    # Stopping and going on -------------------------------------------------------------------------

    def _save(self) -> None:
        """Writes a checkpoint, after `update` and before the next observation is needed."""
        state = {
            "step": self.step,
            "over": self.over,
            "seconds": self.seconds,
            "queries": self.queries,
            "regret": self.regret,
            "sums": self.sums,
            "counts": self.counts,
            "records": self.records,
            "calls": {key: journal.calls for key, journal in self.journals.items()},
            "log_length": None if self.log is None else self.log.length,
            "env": self.env.state_dict(),
            "agent": self.agent.state_dict(),
            "torch_rng": None if self.policy is None else _torch_rng(),
        }
        checkpoints.save(self.folder / "checkpoint.npz", state)

    def _restore(self, state: dict[str, Any]) -> Any:
        """Continues from a checkpoint; returns the observation that comes next."""
        self.step, self.over, self.seconds = state["step"], state["over"], state["seconds"]
        self.queries, self.regret = state["queries"], state["regret"]
        self.sums, self.counts, self.records = state["sums"], state["counts"], state["records"]
        for key, journal in self.journals.items():
            journal.calls = state["calls"][key]
        self.log = self._open_log(state["log_length"] or 0)
        # The agent first, its learner restores the policy: the environment draws the next candidates from it.
        self.agent.load_state_dict(state["agent"])
        if self.policy is not None:
            import torch

            torch.set_rng_state(state["torch_rng"])
        return self.env.load_state_dict(state["env"])

    # Results ---------------------------------------------------------------------------------------

    def _figure(self) -> str:
        """The first metric that people look for, as the mean over replicates."""
        last = self.records[-1]
        for name in (self.config.metric, "win_rate", "simple_regret", "win_rate_best_of_n"):
            if name is not None and name in last:
                return f"{name} {float(np.mean(last[name])):.3f}"
        return ""

    def _show_progress(self) -> None:
        progress = {"rounds": self.step, "horizon": self.truth.view().horizon, "figure": self._figure()}
        path = self.folder / "progress.json"
        temporary = path.with_suffix(".tmp")
        # Not synced to disk: nothing but the bar on the screen reads it.
        temporary.write_text(json.dumps(progress), encoding="utf-8")
        temporary.replace(path)

    def _write_results(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self.log is not None:
            table = labels_table(self.folder / "labels.jsonl", self.cell.label, self.cell.seeds)
            with checkpoints.atomic(self.folder / "labels.parquet") as stream:
                pq.write_table(table, stream)
        checkpoints.write_json(self.folder / "examples.json", self._examples())
        if hasattr(self.truth, "references"):
            # What rules achieve that learn nothing, to hold agents against.
            references = self.truth.references(self.config.split)
            plain = {name: np.asarray(values).tolist() for name, values in references.items()}
            checkpoints.write_json(self.folder / "references.json", plain)
        names = dict.fromkeys(name for record in self.records for name in record)
        columns: dict[str, Any] = {
            "agent": pa.array([self.cell.label] * (len(self.records) * self.replicates), pa.string()),
            "seed": pa.array(np.tile(self.cell.seeds, len(self.records)), pa.int64()),
        }
        for name in names:
            values = [np.broadcast_to(record.get(name, np.nan), (self.replicates,)) for record in self.records]
            kind = pa.int64() if name in ("step", "queries", "gradient_steps") else pa.float64()
            columns[name] = pa.array(np.concatenate(values), kind, from_pandas=True)
        with checkpoints.atomic(self.folder / "result.parquet") as stream:
            pq.write_table(pa.table(columns), stream)

    def _examples(self) -> list[dict[str, Any]]:
        """Responses before and after learning, for the report; none in worlds without text."""
        count = self.config.examples
        spaces = self.truth.view().observation_space.spaces
        if count == 0 or "responses" not in spaces:
            return []
        if hasattr(self.truth, "examples"):
            return list(self.truth.examples(self.config.split, count))
        return _recommended(self.agent, self.observation, count)


def _recommended(agent: Any, observation: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """For distinct prompts of the last round: a candidate at random, and the one that the agent recommends."""
    arms = np.asarray(agent.recommend(observation))
    examples: dict[str, dict[str, Any]] = {}
    for row, prompt in enumerate(observation["prompt"]):
        if len(examples) < count and prompt not in examples:
            responses = observation["responses"][row]
            # Candidates stand in random order, so the first is any.
            examples[prompt] = {"prompt": str(prompt), "before": str(responses[0]), "after": str(responses[arms[row]])}
    return list(examples.values())


def _torch_rng() -> Any:
    import torch

    return torch.get_rng_state()
