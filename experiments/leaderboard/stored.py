"""What was measured of agents, a row for each agent in each world, as a small file of JSON; and what of it is stale.

A row that was made by other code, by another version of the package or in another world is kept and shown, and says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, Final

from duelenv.experiments.folder import files
from duelenv.ground.errors import UserError

__all__ = ["Now", "Row", "Table", "read_table", "stored_table", "write_table"]

#: Of the file.
_FORM: Final = 1


@dataclass(frozen=True)
class Now:
    """What a row of today would say of where it comes from.

    Attributes:
        world: Digest of what the agent meets, see `World.digest`.
        version: Of the package.
        code: Digest of what decides, see `duelenv.experiments.leaderboard.code`.
    """

    world: str
    version: str
    code: str


@dataclass(frozen=True)
class Row:
    """What came out for one agent in one world.

    Attributes:
        agent: Its name.
        world: Name of the world.
        values: The world's figure by seed, from the first on; empty where the agent does not fit.
        refused: Why it does not fit; None where it was played.
        first_seed: Of the values; 0 where there are none.
        made: Where it comes from.
        date: Day, as 2026-11-28.
        processor: On which it was played; empty where it was not.
        seconds: Of all rounds, without evaluation and starting.
    """

    agent: str
    world: str
    values: tuple[float, ...]
    refused: str | None
    first_seed: int
    made: Now
    date: str
    processor: str
    seconds: float

    def stale(self, now: Now) -> str | None:
        """Say why the row no longer tells what would come out now; None where it does."""
        if self.made.world != now.world:
            return "the world was changed since"
        if self.made.version != now.version:
            return f"of version {self.made.version}, this is {now.version}"
        if self.made.code != now.code:
            return "its code or the world's was changed since"
        return None


@dataclass(frozen=True)
class Table:
    """Rows of one version of the worlds.

    Attributes:
        version: Of the set of worlds.
        rows: By agent and world.
    """

    version: str
    rows: Mapping[tuple[str, str], Row]

    def of(self, agent: str, world: str) -> Row | None:
        """Find the row of an agent in a world, or None where it is absent."""
        return self.rows.get((agent, world))

    def with_rows(self, rows: Iterable[Row]) -> Table:
        """Take in some rows more, in the place of those of the same agents and worlds."""
        return replace(self, rows={**self.rows, **{(row.agent, row.world): row for row in rows}})

    @property
    def agents(self) -> list[str]:
        """Names of the agents with any row, sorted."""
        return sorted({agent for agent, _ in self.rows})


def stored_table(version: str) -> Path:
    """Find the file with the project's own results, which comes with the package."""
    return Path(str(resources.files("duelenv.experiments.leaderboard"))) / f"{version}.json"


def read_table(path: Path, version: str) -> Table:
    """Read a table; an empty one where there is no file.

    Args:
        path: The file.
        version: Of the worlds that are played.

    Raises:
        UserError: It is no table, or of another version of the worlds.
    """
    if not path.exists():
        return Table(version, {})
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        known = raw["form"], raw["version"]
        rows = [_row(one) for one in raw["rows"]] if known[0] == _FORM else []
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{str(path)!r} is no table of a leaderboard: name another one, or have it made anew"
        ) from error
    if known != (_FORM, version):
        raise UserError(f"{str(path)!r} is of the worlds {known[1]!r}, expected {version!r}: name another --table")
    return Table(version, {(row.agent, row.world): row for row in rows})


def write_table(path: Path, table: Table) -> None:
    """Write a table, a line for each row, so that a change of one is a change of one line.

    Raises:
        UserError: The disk refuses.
    """
    ordered = [table.rows[key] for key in sorted(table.rows, key=lambda key: (key[1], key[0]))]
    lines = ",\n".join(json.dumps(_plain(row), ensure_ascii=False) for row in ordered)
    head = json.dumps({"form": _FORM, "version": table.version})[:-1]
    files.write_text(path, f'{head}, "rows": [\n{lines}\n]}}\n')


def _plain(row: Row) -> dict[str, Any]:
    made = {"world_digest": row.made.world, "version": row.made.version, "code": row.made.code}
    shared = {"world": row.world, "agent": row.agent, **made, "date": row.date}
    if row.refused is not None:
        return {**shared, "refused": row.refused}
    played = {"processor": row.processor, "seconds": round(row.seconds, 1), "first_seed": row.first_seed}
    # Six digits are far below what seeds differ by.
    return {**shared, **played, "values": [float(f"{value:.6g}") for value in row.values]}


def _row(raw: Mapping[str, Any]) -> Row:
    return Row(
        agent=str(raw["agent"]),
        world=str(raw["world"]),
        values=tuple(float(value) for value in raw.get("values", ())),
        refused=raw.get("refused"),
        first_seed=int(raw.get("first_seed", 0)),
        made=Now(str(raw["world_digest"]), str(raw["version"]), str(raw["code"])),
        date=str(raw["date"]),
        processor=str(raw.get("processor", "")),
        seconds=float(raw.get("seconds", 0.0)),
    )
