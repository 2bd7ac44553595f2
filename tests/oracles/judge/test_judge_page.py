"""The page about judges names every setting, with the default that the code has."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from pathlib import Path

import yaml
from judge_stub import MODEL, judge_server

from duelenv.oracles import ask, make
from duelenv.oracles.judge import make_judge
from duelenv.oracles.services.retrying import Patience

PAGE = (Path(__file__).parents[3] / "docs" / "judges.md").read_text(encoding="utf-8")


def test_the_table_of_settings_is_that_of_the_code() -> None:
    known = {name: one.default for name, one in inspect.signature(make_judge).parameters.items() if name != "home"}
    listed: dict[str, str] = {}
    for line in PAGE.partition("## Settings")[2].partition("\n## ")[0].splitlines():
        cells = line.split(" | ")
        if line.startswith("| `"):
            listed |= dict.fromkeys(re.findall(r"`(\w+)`", cells[0]), cells[1].strip().strip("`"))
    assert set(listed) == set(known)
    for name, said in listed.items():
        default = known[name]
        if isinstance(default, bool | int | float | str):
            assert said.replace(",", "") == str(default).lower(), name
    for item in fields(Patience):
        assert item.default is None or re.search(rf"`{item.name}` {item.default:g}\b", PAGE), item.name


def test_the_oracle_of_the_page_can_be_made_and_asked(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("JUDGE_KEY", "x")
    settings = yaml.safe_load(PAGE.partition("```yaml\n")[2].partition("```")[0])["oracle"]
    assert settings.pop("name") == "judge"
    with judge_server() as (server, _):
        oracle = make("judge", **{**settings, "url": server.url, "model": MODEL})
        assert ask(oracle, ["p"], ["a"], ["bb"]).win[0] < 0.5
