"""`duelenv run STUDY`: reads a study, plays its stages as far as is asked for, and leaves tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from duelenv.experiments.config.loading import override_mapping
from duelenv.experiments.efficiency.outcome import claims, null_text, table_text, tuning_text, write_arms
from duelenv.experiments.efficiency.reading import read_study
from duelenv.experiments.efficiency.stages import FROZEN, FROZEN_FURTHER, STAGES, Stages, Table, Tuned
from duelenv.experiments.efficiency.study import Study
from duelenv.experiments.efficiency.verdicts import null_check
from duelenv.experiments.folder import files
from duelenv.ground import checks

__all__ = ["run_study"]

#: Seeds of `passive` below which the null check has no halves worth comparing.
_NULL_SEEDS: Final = 12


def run_study(
    raw: Mapping[str, Any],
    overrides: Sequence[str] = (),
    output: Path | None = None,
    *,
    jobs: int | None = None,
    dry: bool = False,
    progress: bool | None = None,
) -> str:
    """Run a study as far as `stage=...` says, or only say what it will take.

    Args:
        raw: Parsed YAML of the study.
        overrides: `key=value` each; `stage=NAME` is the last stage to run, by default all.
        output: Its folder, by default `runs/NAME`.
        jobs: Cells that run at the same time.
        dry: Foresee cells and minutes of each stage by a short probe, and run nothing.
        progress: As for `duelenv.experiments.running.runner.run`.

    Returns:
        What to print.

    Raises:
        UserError: A setting that is unknown, missing or refused.
    """
    given = override_mapping({"stage": STAGES[-1], **raw}, overrides)
    last = checks.one_of("stage", given.pop("stage"), STAGES)
    if jobs is not None:
        given["jobs"] = jobs
    study = read_study(given)
    root = output or Path("runs") / study.name
    if dry:
        from duelenv.experiments.efficiency.foresight import foresee

        return foresee(study, last)
    root.mkdir(parents=True, exist_ok=True)
    files.write_text(root / "study.yaml", yaml.safe_dump(dict(study.resolved), sort_keys=False, allow_unicode=True))
    stages = Stages(study, root, progress)
    tuned, tables, digests = _play(study, stages, last)
    text = _text(study, tuned, tables, digests)
    files.write_text(root / "study.txt", text)
    write_arms(tables, tuned, root / "arms.parquet")
    if tables:
        from duelenv.experiments.efficiency.pictures import save_pictures

        carried = {t.regime.name: stages.carried(t) for t in tables if t.stage == "screen"}
        save_pictures(study, tables, carried, root)
    return f"{text}\n\nstudy    {root}"


def _play(study: Study, stages: Stages, last: str) -> tuple[dict[str, dict[str, Tuned]], list[Table], dict[str, str]]:
    """Play the stages up to the last one; trials by regime, tables, and hashes of what was frozen, by file."""
    upto = STAGES[: STAGES.index(last) + 1]
    tuned = {regime.name: stages.tune(regime) for regime in study.regimes}
    if "screen" not in upto:
        return tuned, [], {}
    screened = {regime.name: stages.screen(regime, tuned[regime.name]) for regime in study.regimes}
    tables = list(screened.values())
    if "freeze" not in upto:
        return tuned, tables, {}
    chosen = {
        regime.name: stages.frozen_of(regime, tuned[regime.name], screened[regime.name]) for regime in study.regimes
    }
    digests = {FROZEN: stages.freeze(chosen)}
    if "confirm" in upto:
        for regime in study.regimes:
            tables += stages.confirm(regime, tuned[regime.name], screened[regime.name])
    if "further" in upto and study.of_kind("further"):
        named = {
            regime.name: stages.further_of(regime, tuned[regime.name], screened[regime.name])
            for regime in study.regimes
        }
        seeds = list(study.seeds["confirm"].values)
        after = {"after": digests[FROZEN], "seeds": seeds, "share": study.share, "regimes": named}
        digests[FROZEN_FURTHER] = stages.freeze(after, FROZEN_FURTHER)
        for regime in study.regimes:
            tables += stages.further(regime, tuned[regime.name], screened[regime.name])
    return tuned, tables, digests


def _text(
    study: Study, tuned: Mapping[str, Mapping[str, Tuned]], tables: Sequence[Table], digests: Mapping[str, str]
) -> str:
    said = claims(tables)
    parts = [tuning_text(regime, tuned[regime.name]) for regime in study.regimes]
    parts += [table_text(table, said) for table in tables]
    checked = [table for table in tables if table.baseline.measured.arm.seeds >= _NULL_SEEDS]
    if checked:
        baselines = [(table.baseline.measured.arm, float(table.baseline.labels)) for table in checked]
        parts.append(null_text(checked, null_check(baselines, share=study.share, trials=study.null_trials)))
    parts += [f"frozen settings, {name}: SHA-256 {digest}" for name, digest in digests.items()]
    parts.append(
        "Labels to target: where the isotonic fit of the mean over seeds crosses for good. Brackets are 95 % bootstrap "
        "intervals over seeds, unpaired, target and passive drawn anew each time; never is infinity. Verdicts without "
        "brackets are corrected by Holm over the carried cells of a regime in all held-out and further worlds; those "
        "in brackets are not, and claim nothing."
    )
    return "\n\n\n".join(parts)
