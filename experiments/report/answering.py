"""What the labels of a run say of whoever answered: ties, silence, a liking for the first place. Asks nobody."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final

import numpy as np

from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.results.oracle_figures import OracleLine
from duelenv.ground.errors import UserError
from duelenv.oracles.base import Preferences
from duelenv.oracles.crowds.cascade import fit_line

__all__ = ["answering_lines"]

#: Half a 95 % interval of a share, in its standard errors.
_NORMAL: Final = 1.959964


def answering_lines(folder: RunFolder, config: RunConfig) -> list[OracleLine]:
    """Read figures of who answered, out of labels and of what oracles keep in the run's folder.

    Args:
        folder: The run's.
        config: The run.

    Raises:
        UserError: A file of an oracle's is damaged.
    """
    name = "labels" if config.oracle is None else config.oracle.name
    return [*_labels(folder, name), *_people(folder), *_cascades(folder), *_scores(folder)]


def _labels(folder: RunFolder, name: str) -> Iterator[OracleLine]:
    """Of all duels: how many went to the first place, which is half of them where agents draw sides evenly."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if not folder.labels.is_file():
        return
    present = [column for column in ("label", "id") if column in pq.read_schema(folder.labels).names]
    table = pq.read_table(folder.labels, columns=present)
    labels = table["label"].drop_null().to_numpy()
    if labels.size:
        ties = float((labels == 0.5).mean())
        decided = labels[labels != 0.5]
        if ties:
            yield OracleLine(name, f"{100 * ties:.1f} %", f"labels that are ties, of {labels.size:,}")
        if decided.size:
            share = float((decided > 0.5).mean())
            half = _NORMAL * float(np.sqrt(share * (1.0 - share) / decided.size))
            text = f"{100 * share:.1f} % ± {100 * half:.1f}"
            yield OracleLine(
                name, text, f"decided labels for the response shown first, of {decided.size:,}; 50 % without a liking"
            )
    if "id" in present:  # asked of somebody, and not answered
        silent = pc.sum(pc.and_(pc.is_valid(table["id"]), pc.is_null(table["label"]))).as_py() or 0
        if silent:
            yield OracleLine(name, f"{silent:,}", f"duels without an answer, of {len(table):,}")


def _people(folder: RunFolder) -> Iterator[OracleLine]:
    """Of each annotator on the run's own desk."""
    from duelenv.oracles.people import Desk
    from duelenv.oracles.people.source import FILE

    path = folder.home / FILE
    if not path.is_file():
        return
    from duelenv.experiments.labelling.agreement import overview

    try:
        found = overview(Desk(path))
    except UserError as error:  # the package for agreement is missing; the rest of the page is not
        yield OracleLine("people", "-", str(error))
        return
    for one in found.people:
        left = "" if one.left is None else f"; {100 * one.left:.0f} % of those decided for the left"
        pace = "" if one.seconds is None else f"; {one.seconds:.1f} s each"
        more = f"labels, {one.ties:,} ties, {one.declined:,} declined{left}{pace}"
        yield OracleLine(f"people: {one.name}", f"{one.answers:,}", more)
    if found.alpha is not None:
        yield OracleLine("people", f"{found.alpha:.2f}", f"Krippendorff's alpha, of {found.shared:,} shared questions")


def _cascades(folder: RunFolder) -> Iterator[OracleLine]:
    """How the cheap oracle of a cascade had to be corrected, from what both said on trial."""
    pairs: dict[str, Any] = {}
    for path in folder.trials_of_cascades:
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                key, *said = json.loads(line)
                pairs[key] = [float("nan") if value is None else float(value) for value in said]
            except (ValueError, TypeError):  # cut off when a process died
                continue
    if not pairs:
        return
    win, tie, dear = np.array(list(pairs.values())).T
    correction = fit_line(Preferences(win, tie), dear)
    agree = float(np.mean((win + tie / 2 > 0.5) == (dear > 0.5)))
    yield OracleLine(
        "cascade, cheap", f"{100 * agree:.1f} %", f"agreement with the dear one, of {len(pairs):,} asked of both"
    )
    yield OracleLine(
        "cascade, cheap", f"{correction.slope:.2f}", "slope that corrects its log-odds: below 1, it is too sure"
    )
    yield OracleLine(
        "cascade, cheap", f"{correction.intercept:+.2f}", "logits that take back its liking for the first place"
    )


def _scores(folder: RunFolder) -> Iterator[OracleLine]:
    """How many responses reward servers scored."""
    path = folder.scores
    if not path.is_file():
        return
    try:
        with closing(sqlite3.connect(path, timeout=60.0)) as connection:
            ((count, mean, square),) = connection.execute("SELECT count(*), avg(score), avg(score * score) FROM scores")
    except sqlite3.Error as error:
        raise UserError(f"{str(path)!r} cannot be read ({error}): move it away to go on without it") from error
    if count:
        deviation = max(square - mean * mean, 0.0) ** 0.5
        yield OracleLine(
            "reward servers", f"{count:,}", f"responses scored once each: {mean:.3g} ± {deviation:.3g} (deviation)"
        )
