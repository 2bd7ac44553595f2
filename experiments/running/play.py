"""Playing a cell of a run: from the first round to the last, able to stop anywhere.

Not for deciding which cells there are, nor for running several: that is `runner`. A cell writes only in its own folder
(`CellFolder`), and only while it holds the folder's lock: its ledger and its records as it goes, a checkpoint now and
then, and at the end its results, with a seal that marks it as finished.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from shutil import rmtree
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.divergence import Diverged
from duelenv.evaluation import evaluate, seen_through
from duelenv.experiments.config.cell import CellReport, CellTask
from duelenv.experiments.config.modules import load_modules
from duelenv.experiments.folder import files
from duelenv.experiments.folder.locks import hold_cell
from duelenv.experiments.folder.machine import add_player, describe_machine
from duelenv.experiments.folder.standing import write_standing
from duelenv.experiments.results.informative import InformativeDuels
from duelenv.experiments.results.metrics import KEYS, check_name, is_measured
from duelenv.experiments.results.products import Measured, examples_of, line_of, references_of, write_products
from duelenv.experiments.results.update_figures import Figures
from duelenv.experiments.running import assembly, checkpoints, custody
from duelenv.experiments.running.given_labels import read_labels, warm_up
from duelenv.experiments.running.models import CellModels
from duelenv.experiments.running.processes import FuseBlown, Stopped, stop_requested
from duelenv.experiments.running.start_policy import start_policy, threads_of
from duelenv.ground.errors import UserError
from duelenv.labels.ledger import Ledger
from duelenv.labels.ledger_file import COPY, DATABASE
from duelenv.worlds.alignment_duel.candidates import SAMPLER_FIGURES

__all__ = ["run_cell", "scout_cell"]

#: Seconds between two writings of a cell's progress file.
_PROGRESS_SECONDS: Final = 0.5
#: A checkpoint may cost this share of the run's time: a slow one is written less often.
_CHECKPOINT_SHARE: Final = 0.05


def run_cell(task: CellTask) -> CellReport:
    """Play a cell, from its checkpoint if it has one, and write its results.

    Returns:
        A short report for progress lines.

    Raises:
        UserError: A setting that a world, an oracle, a policy or an agent refuses; or a file that is lost.
        Stopped: The process was told to stop.
    """
    with _playing(task) as run:
        return run.finish()


def scout_cell(task: CellTask) -> tuple[str, ...]:
    """Play a cell until the config's `metric` shows up, at most to its first record of played rounds.

    A cell that came as far as that keeps a checkpoint there; before it, a few rounds are played again, with the answers
    of oracles kept.

    Args:
        task: A cell of a config with a `metric`.

    Returns:
        Names of what was measured.

    Raises:
        UserError: A setting that a world, an oracle, a policy or an agent refuses; or a file that is lost.
        Stopped: The process was told to stop.
    """
    with _playing(task) as run:
        return run.scout()


@contextmanager
def _playing(task: CellTask) -> Iterator[_Run]:
    if stop_requested():
        raise Stopped
    load_modules(task.config.modules)
    with threads_of(task.config), hold_cell(task.folder.lock, stop_requested):
        run = _Run(task)
        try:
            run.start()
            yield run
        except (Stopped, FuseBlown):
            raise
        except Exception:
            run.failed = True
            raise
        finally:
            run.close()


class _Run:
    """The state of a cell while it is played."""

    def __init__(self, task: CellTask) -> None:
        self.config, self.cell, self.folder = task.config, task.cell, task.folder
        self._task = task
        self.notes: list[str] = []
        self.ledger: Ledger | None = None
        custody.take_on(task)
        self.policy = start_policy(self.config)
        self.models = CellModels(self.config, self.cell.label, self.cell.seeds[0], self.folder, self.policy)
        own = self.config.for_agent(self.cell.label)
        self.env: Any = assembly.make_environment(own, policy=self.policy, home=custody.home_of(task))
        self.truth = self.env.unwrapped
        self.agent: Any = assembly.make_agent(self.config, self.cell.label, self.env, self.cell.seeds[0])
        self.replicates: int = self.truth.view().replicates
        self.step = 0
        self.seconds = 0.0
        self.queries = np.zeros(self.replicates, dtype=np.int64)
        self.regret: dict[str, NDArray[np.float64]] = {}
        self.figures = Figures(self.replicates, self.cell.label)
        self.informative = InformativeDuels(self.replicates)
        self.measured: tuple[str, ...] = ()  # by the world
        self.records: list[dict[str, Any]] = []
        self.over = self.failed = False
        self.trackers = custody.trackers_of(task)
        self.observation: Any = None
        self._begun, self._begun_at = time.monotonic(), 0  # this start, for the rate

    def start(self) -> None:
        """Open the ledger and go to the first round, or to where the last checkpoint was taken."""
        add_player(self.folder.players, describe_machine())  # now that the libraries it needs are loaded
        self.ledger = custody.open_ledger(self._task, self.truth)
        self.notes += [] if self.ledger is None else self.ledger.healed
        state = self._checkpoint()
        if state is not None:
            self.observation = self._restore(state)
            return
        self.folder.records.unlink(missing_ok=True)
        if self.config.labels is not None:
            given = read_labels(**self.config.labels)
            self.env.reset(seed=self.cell.seeds[0])  # with which the world draws what it holds out
            with self._rescuing():
                left_out = warm_up(self.agent, self.truth, given)
            if left_out:
                self.notes.append(
                    f"{self.cell.name}: {left_out:,} of {len(given):,} 'labels' are about held-out prompts, on which "
                    "agents are judged, and were left out"
                )
        self.observation, info = self.env.reset(seed=self.cell.seeds[0])
        self.queries = self._queries(info)
        self._evaluate()

    def close(self) -> None:
        """Close what is open, and say how far the cell is."""
        if self.records:
            self._show_progress()
        self.env.close()
        if self.ledger is not None:
            self.ledger.close()
        self.trackers.close(failed=self.failed)

    # The loop --------------------------------------------------------------------------------------

    def finish(self) -> CellReport:
        """Play the rounds that are left and write the results."""
        saved = shown = self._begun = time.monotonic()
        saved_at = self._begun_at = self.step
        pause = self.config.checkpoint_seconds
        self.trackers.start(self.records)  # those of an earlier start are known to them
        self._show_progress()
        while not self.over:
            if stop_requested():
                if self.step > saved_at:
                    self._save()
                raise Stopped
            self._round()
            now = time.monotonic()
            if now - shown >= _PROGRESS_SECONDS:
                self._show_progress()
                shown = now
            if now - saved >= pause and not self.over:
                self._save()
                saved, saved_at = time.monotonic(), self.step
                pause = max(self.config.checkpoint_seconds, (saved - now) / _CHECKPOINT_SHARE)
        self._show_progress()
        if self.ledger is not None:
            self.ledger.flush()
        self.models.leave(self.agent, self.records)
        rmtree(self.folder.diverged, ignore_errors=True)
        write_products(
            self.folder,
            Measured(self.cell.label, self.cell.seeds, self.records, self.measured, tuple(self.figures.names)),
            references=references_of(self.truth, self.config.split),
            examples=examples_of(self.truth, self.agent, self.observation, self.config),
        )
        return CellReport(self.cell, self.seconds, self._figure(), tuple(self.notes))

    def scout(self) -> tuple[str, ...]:
        """Play until the metric shows up, at most to the first record of played rounds; what was measured by then."""
        assert self.config.metric is not None
        played = False
        while not (self.over or len(self.records) > 1 or is_measured(self.config.metric, self._measured())):
            if stop_requested():
                raise Stopped
            self._round()
            played = True
        if played and len(self.records) > 1:
            self._save()
        return self._measured()

    def _measured(self) -> tuple[str, ...]:
        """Name all figures so far, in records or on the way to one."""
        names = [name for record in self.records for name in record]
        names += [*self.figures.names, *(f"regret_{name}" for name in self.regret)]
        return tuple(name for name in dict.fromkeys(names) if name != "step")

    def _round(self) -> None:
        started = time.perf_counter()
        observation = self.observation
        actions = self.agent.act(observation)
        self.observation, labels, _, truncated, info = self.env.step(actions)
        with self._rescuing():
            learnt = self.agent.update(observation, actions, labels, info["late"])
        self.seconds += time.perf_counter() - started
        self.step += 1
        before, self.queries = self.queries, self._queries(info)
        for name, values in info.get("regret", {}).items():
            if name not in self.regret:
                check_name(f"regret_{name}", f"A notion of regret of {self.config.env.id}")
            total = np.asarray(values, dtype=np.float64).reshape(self.replicates, -1).sum(axis=1)
            self.regret[name] = self.regret.get(name, 0.0) + total
        self.figures.add(learnt, self.measured)
        self.figures.add_rows("duel_certainty", info["certainty"])
        self.informative.add(info["certainty"])
        for name in ("alike", *SAMPLER_FIGURES):
            if name in info:
                self.figures.add_rows(name, info[name])
        self.over = bool(np.all(truncated))
        reached = any(((before < stop) & (stop <= self.queries)).any() for stop in self.config.report_at)
        if self.over or reached or self.step % self.config.evaluate_every == 0:
            self._evaluate()

    @contextmanager
    def _rescuing(self) -> Iterator[None]:
        """Save what an agent was before a step that was not finite; the checkpoint stays that of an earlier round."""
        try:
            yield
        except Diverged as error:
            if self.ledger is not None:
                self.ledger.flush()
            error.saved = self.models.rescue(self.agent)
            error.advice += (
                "; the same command comes to the same step, a changed config goes on with the answers so far by "
                f"'--output NEW --answers {self.folder.path.parent.parent}'"
            )
            raise

    def _queries(self, info: Mapping[str, Any]) -> NDArray[np.int64]:
        return np.broadcast_to(np.asarray(info["queries"], dtype=np.int64), (self.replicates,)).copy()

    def _evaluate(self) -> None:
        """Add a record of the agent as it stands after `step` rounds."""
        measured = evaluate(self.env, self.agent, self.config.split)
        for name in measured:
            check_name(name, f"A metric that {self.config.env.id} measures")
            if name in (*KEYS, "queries", "gradient_steps", "seconds"):
                raise UserError(
                    f"{self.config.env.id} measures {name!r}, which the runner counts itself: choose another name"
                )
        self.measured = tuple(dict.fromkeys([*self.measured, *measured]))
        self.records.append(
            {
                **self.figures.means(),
                "step": self.step,
                "queries": self.queries.copy(),
                "gradient_steps": int(getattr(self.agent, "gradient_steps", 0)),
                "seconds": self.seconds,
                **{f"regret_{name}": total.copy() for name, total in self.regret.items()},
                **self.informative.figures(),
                **{name: np.asarray(values, dtype=np.float64) for name, values in measured.items()},
            }
        )
        files.append(self.folder.records, line_of(self.records[-1]))
        self.trackers.log(self.records[-1])
        if self.models.keep(self.step, self.env, self.agent, measured):
            self._save()  # from here on nothing names the one before
            self.models.forget_others()

    # Stopping and going on -------------------------------------------------------------------------

    def _save(self) -> None:
        """Write a checkpoint, after `update` and before the next observation is needed."""
        if self.ledger is not None:
            self.ledger.flush()
        state = {
            "cell": self._task.identity,
            "step": self.step,
            "over": self.over,
            "seconds": self.seconds,
            "queries": self.queries,
            "regret": self.regret,
            "figures": self.figures.state_dict(),
            "informative": self.informative.state_dict(),
            "measured": list(self.measured),
            "records": self.records,
            "best": self.models.state_dict(),
            "answers": None if self.ledger is None else self.ledger.answered_before(self.step),
            "env": self.truth.state_dict(),
            "agent": self.agent.state_dict(),
            "torch_rng": None if self.policy is None else _torch_rng(),
        }
        checkpoints.save(self.folder.checkpoint, state)

    def _checkpoint(self) -> dict[str, Any] | None:
        """Read the last checkpoint; None where there is none that can be read."""
        path = self.folder.checkpoint
        if not path.exists():
            return None
        try:
            state = checkpoints.load(path)
        except checkpoints.Damaged:
            path.replace(path.with_name(f"{path.name}.damaged"))
            self.notes.append(f"{str(path)!r} was damaged: the cell is played again from its start, with its answers")
            return None
        if state["cell"] != self._task.identity:
            raise custody.foreign(self._task, path)
        lost = self.models.lost(state.get("best"))
        if lost is not None:
            self.notes.append(f"{str(lost)!r} was damaged: the cell is played again from its start, with its answers")
            return None
        if self.ledger is not None and self.ledger.answered_before(state["step"]) < state["answers"]:
            lost = state["answers"] - self.ledger.answered_before(state["step"])
            raise UserError(
                f"{str(self.folder.path / DATABASE)!r} lacks {lost} answers that {path.name} was taken with, and so "
                f"does its copy {COPY!r}: put one of them back from a backup, or remove the folder "
                f"{str(self.folder.path)!r} to ask anew"
            )
        return state

    def _restore(self, state: dict[str, Any]) -> Any:
        """Continue from a checkpoint; return the observation that comes next."""
        self.step, self.over, self.seconds = state["step"], state["over"], state["seconds"]
        self.queries, self.regret = state["queries"], state["regret"]
        self.records, self.measured = state["records"], tuple(state["measured"])
        self.figures.load_state_dict(state["figures"])
        self.informative.load_state_dict(state["informative"])
        self.models.load_state_dict(state.get("best"))
        with files.atomic(self.folder.records) as stream:  # what was measured later will be measured again
            stream.writelines(line_of(record) for record in self.records)
        # The agent first, its learner restores the policy: the environment draws the next candidates from it.
        self.agent.load_state_dict(state["agent"])
        if self.policy is not None:
            import torch

            torch.set_rng_state(state["torch_rng"])
        return seen_through(self.env, self.truth.load_state_dict(state["env"]))

    # Results ---------------------------------------------------------------------------------------

    def _figure(self) -> str:
        """Write the first metric that people look for, as the mean over replicates."""
        last = self.records[-1]
        for name in (self.config.metric, "win_rate", "simple_regret", "win_rate_best_of_n"):
            values = np.atleast_1d(last[name]) if name is not None and name in last else np.empty(0)
            values = values[~np.isnan(values)]  # a figure of the whole cell stands beside its first seed only
            if values.size:
                return f"{name} {values.mean():.3f}"
        return ""

    def _show_progress(self) -> None:
        elapsed, played = time.monotonic() - self._begun, self.step - self._begun_at
        write_standing(
            self.folder.progress,
            rounds=self.step,
            horizon=self.truth.view().horizon,
            figure=self._figure(),
            labels=int(self.queries.sum()),
            rate=played / elapsed if played and elapsed > 0 else None,
        )


def _torch_rng() -> Any:
    import torch

    return torch.get_rng_state()
