"""Folders that are whole or absent."""

import errno
import os

import pytest

from duelenv import UserError
from duelenv.ground.files import atomic, atomic_folder


def fill(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)


def names_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_folder_appears_whole_and_takes_the_place_of_the_one_before(tmp_path):
    for names in (["a", "below/b"], ["c"]):
        with atomic_folder(tmp_path / "out" / "model") as place:
            fill(place, *names)
            assert place.parent == tmp_path / "out"
            assert names_in(tmp_path / "out" / "model") == ([] if names[0] == "a" else ["a", "below/b"])
        assert names_in(tmp_path / "out") == [f"model/{name}" for name in names]


def test_what_fails_leaves_the_one_before_and_nothing_else(tmp_path):
    with atomic_folder(tmp_path / "model") as place:
        fill(place, "a")

    def fails(error):
        with atomic_folder(tmp_path / "model") as place:
            fill(place, "half")
            raise error

    with pytest.raises(ZeroDivisionError):
        fails(ZeroDivisionError())
    with pytest.raises(UserError, match=r"model' \(No space left on device\): free space"):
        fails(OSError(errno.ENOSPC, "No space left on device"))
    assert names_in(tmp_path) == ["model/a"]


def test_a_file_in_the_way_of_its_parents_is_one_sentence(tmp_path):
    (tmp_path / "out").write_text("here already")
    with pytest.raises(UserError, match="is a file, expected a directory"), atomic_folder(tmp_path / "out" / "model"):
        pass


def test_a_link_where_the_temporary_file_will_be_is_not_written_through(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / f".page.{os.getpid()}.tmp").symlink_to(victim)
    with atomic(tmp_path / "page") as stream:
        stream.write(b"new")
    assert victim.read_text() == "precious"
    assert (tmp_path / "page").read_bytes() == b"new"
    assert not (tmp_path / "page").is_symlink()
