"""The record of a saved policy; that whole folders are read again, old ones too, is in `test_export`."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from duelenv import UserError
from duelenv.policies.saved import SETTINGS, Places, Record

RECORD = Record(
    version=7,
    reference_version=3,
    reference_moved=True,
    adapter="mine",
    settings={name: place for place, name in enumerate(SETTINGS)},
)


def test_what_is_written_is_read(tmp_path):
    RECORD.write(tmp_path)
    assert Record.read(tmp_path) == RECORD


def test_a_folder_of_version_0_1_knows_less_and_lies_otherwise(tmp_path):
    RECORD.write(tmp_path)
    written = json.loads((tmp_path / "policy.json").read_text())
    del written["reference_version"], written["max_sequences"]
    (tmp_path / "policy.json").write_text(json.dumps({**written, "format": 1}))
    read = Record.read(tmp_path)
    assert read.reference_version == 0 and read.version == 7
    assert list(read.settings) == [name for name in SETTINGS if name != "max_sequences"]


@pytest.mark.parametrize(
    ("format", "adapter", "places"),
    [
        (2, "mine", ("", "", "")),
        (2, None, ("", "", "")),
        (1, None, ("policy", "", "tokenizer")),
        (1, "default", ("policy", "policy", "tokenizer")),
        (1, "mine", ("policy/mine", "policy", "tokenizer")),
    ],
)
def test_each_format_has_its_places(format, adapter, places):
    folder = Path("saved")
    found = replace(RECORD, format=format, adapter=adapter).places(folder)
    assert found == Places(*(folder / place for place in places))


def test_a_folder_of_something_else_or_of_a_later_version_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no saved policy"):
        Record.read(tmp_path)
    replace(RECORD, format=3).write(tmp_path)
    with pytest.raises(UserError, match="the format 3; this version reads formats 1 and 2"):
        Record.read(tmp_path)
