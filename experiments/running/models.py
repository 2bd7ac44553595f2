"""The model that a cell leaves of the policy that it trains, and what its card says of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from duelenv.evaluation import evaluate
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.config.settings import NamedConfig
from duelenv.experiments.folder import files
from duelenv.experiments.folder.layout import AGENT, CellFolder
from duelenv.experiments.running import checkpoints
from duelenv.ground.errors import UserError

__all__ = ["CellModels", "facts_of"]


class _Best(NamedTuple):
    """The best model so far: after which step, its win rate on training prompts, and digests of its files."""

    step: int
    win_rate: float
    digests: dict[str, str | None]


class CellModels:
    """Keeps what `save_models` of a config asks for, while a cell is played.

    The best model so far lies in a folder of its own, and a checkpoint names it. The one before it goes only when there
    is a checkpoint that names the new one: `keep` says when to write that, and then comes `forget_others`.

    Args:
        config: The run.
        label: The agent's.
        seed: The cell's.
        folder: The cell's.
        policy: What the agent trains; None in a world without one.
    """

    def __init__(self, config: RunConfig, label: str, seed: int, folder: CellFolder, policy: Any) -> None:
        self._config, self._label, self._seed, self._folder, self._policy = config, label, seed, folder, policy
        self._best: _Best | None = None

    def keep(self, step: int, env: Any, agent: Any, measured: Mapping[str, Any]) -> bool:
        """Keep the policy where the best is wanted and it wins more often, on training prompts, than any before it.

        Args:
            step: Rounds played.
            env: The environment.
            agent: As it stands.
            measured: What the world has just measured of it, on the config's split.

        Raises:
            UserError: The best is wanted, and nobody judges.
        """
        if self._policy is None or self._config.save_models != "best":
            return False
        found = measured if self._config.split == "train" else evaluate(env, agent, "train")
        if "win_rate" not in found:
            raise UserError(
                "'save_models' is 'best', which is chosen by the win rate on training prompts, and here nobody judges "
                "at once: set 'evaluation_oracle', or 'save_models' to last or none"
            )
        win_rate = float(np.mean(found["win_rate"]))  # NaN where the judge declined to say
        if self._policy.version == 0 or not win_rate > (-1.0 if self._best is None else self._best.win_rate):
            return False
        place = self._folder.best(step)
        with _model_folder(place) as written:
            self._policy.export(written)
        self._best = _Best(step, win_rate, files.digests_of(place))
        return True

    def forget_others(self) -> None:
        """Remove models that were the best before this one."""
        kept = None if self._best is None else self._folder.best(self._best.step)
        for place in self._folder.path.glob("best-*"):
            if place != kept:
                shutil.rmtree(place)

    def leave(self, agent: Any, records: Sequence[Mapping[str, Any]]) -> None:
        """Write the model that the config asks for, where the policy was trained at all.

        Args:
            agent: At the end.
            records: What was measured, in order.
        """
        if self._policy is None or self._policy.version == 0 or self._config.save_models == "none":
            return
        rounds, best = records[-1]["step"], self._best
        if best is None:  # the last is wanted; or no judge had anything to say
            facts = facts_of(self._config, self._label, self._seed, agent, records[-1])
            with _model_folder(self._folder.model) as place:
                self._policy.export(place, facts={**facts, "which": f"the last, after {rounds} rounds"})
            return
        from duelenv.policies.export import CARD, write_card

        record = next(record for record in records if record["step"] == best.step)
        facts = facts_of(self._config, self._label, self._seed, agent, record)
        facts["which"] = f"of {rounds} rounds, the highest win rate on training prompts, {best.win_rate:.3f}"
        with _model_folder(self._folder.model) as place:
            shutil.copytree(self._folder.best(best.step), place, copy_function=_link, dirs_exist_ok=True)
            (place / CARD).unlink()  # a name only: the file that is linked stays as it is
            write_card(place, facts, chat=self._policy.chat_template)

    def rescue(self, agent: Any) -> Path:
        """Write an agent, and its policy for a config's `policy: {path: FOLDER}`, and return the folder."""
        with _model_folder(self._folder.diverged) as place:
            if self._policy is not None:
                self._policy.save(place)
            checkpoints.save(place / AGENT, {"agent": agent.state_dict()})
        return self._folder.diverged

    def state_dict(self) -> list[Any] | None:
        """Return which model is the best so far."""
        return None if self._best is None else list(self._best)

    def load_state_dict(self, state: list[Any] | None) -> None:
        """Go on from a model that is there; see `lost`."""
        self._best = None if state is None else _Best(*state)

    def lost(self, state: list[Any] | None) -> Path | None:
        """Find the folder that a state names, where it is not as it was written."""
        if state is None:
            return None
        best = _Best(*state)
        place = self._folder.best(best.step)
        return None if files.digests_of(place) == best.digests else place


def facts_of(config: RunConfig, label: str, seed: int, agent: Any, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is to be known of a model that a cell trained, by names that people read.

    Args:
        config: The run.
        label: The agent's.
        seed: The cell's.
        agent: The agent.
        record: What was measured of the model.
    """
    chosen = config.agent(label)
    learner = getattr(agent, "learner", None)
    loss = getattr(learner, "loss", None)
    settings = ", ".join(f"{name} {value}" for name, value in chosen.settings.items())
    assert config.policy is not None
    return {
        "base model": config.policy.settings.get("path", _named(config.policy)),
        "run": config.name,
        "agent": label if chosen.name == label else f"{label} ({chosen.name})",
        "settings of the agent": settings or None,
        "seed": seed,
        "oracle": _named(config.oracle),
        "judge": _named(config.evaluation_oracle),
        "labels": int(np.sum(record["queries"])),
        "rounds": record["step"],
        "gradient steps": record["gradient_steps"],
        "loss": None if loss is None else type(loss).__name__,
        "beta": getattr(loss, "beta", None),
        "win rate against the start": _figure(record, "win_rate", config.split),
        "KL to the start, nats a response": _figure(record, "kl", config.split),
    }


#: By the split that a config names.
_PROMPTS = {"test": "held-out prompts", "train": "training prompts"}


def _figure(record: Mapping[str, Any], name: str, split: str) -> str | None:
    return None if name not in record else f"{float(np.mean(record[name])):.3f} on {_PROMPTS[split]}"


def _named(config: NamedConfig | None) -> str | None:
    if config is None:
        return None
    settings = ", ".join(f"{name} {value}" for name, value in config.settings.items())
    return f"{config.name} ({settings})" if settings else config.name


@contextmanager
def _model_folder(path: Path) -> Iterator[Path]:
    """Make a folder that appears whole; what the writer of safetensors says of a full disk is said in our words."""
    from safetensors import SafetensorError

    with files.atomic_folder(path) as place:
        try:
            yield place
        except SafetensorError as error:
            raise UserError(
                f"cannot write {str(path)!r} ({error}): free space on the disk, or set 'save_models' to none, and run "
                "the same command again"
            ) from error


def _link(source: str, target: str) -> None:
    """Give a file a second name, or copy it where the disk knows no such thing."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
