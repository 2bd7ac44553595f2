"""The page of the docs is that of the stored table."""

from pathlib import Path

from duelenv.experiments.leaderboard.showing import standings_rows
from duelenv.experiments.leaderboard.standings import standings
from duelenv.experiments.leaderboard.stored import read_table, stored_table
from duelenv.experiments.leaderboard.worlds import current

PAGE = Path(__file__).resolve().parents[3] / "docs" / "leaderboard.md"


def test_the_page_shows_what_is_stored():
    worlds = current()
    table = read_table(stored_table(worlds.version), worlds.version)
    shown = PAGE.read_text(encoding="utf-8").replace("**", "")
    names = {world.name for world in worlds.worlds}
    assert table.rows
    assert {world for _, world in table.rows} <= names
    for group in worlds.groups:
        found = standings(table, group, group.of("reporting"))
        # Without the last column, which says what is stale by now.
        for cells in standings_rows(found, table, {})[1:]:
            assert f"| {' | '.join(cells[:-1])} |" in shown, f"remake it with 'duelenv leaderboard --page': {cells}"
