"""What a terminal would obey is made visible, and nothing else is touched."""

import subprocess
import sys
import unicodedata

import pytest

from duelenv.ground.terminal import printable

#: Overrides, embeddings and isolates of the reading order.
LINES = "\u2028\u2029"
BIDI = [chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))]


def test_no_control_character_is_left():
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    left = printable(every)
    # Cc is all of C0, DEL and C1; Cs are lone surrogates.
    assert not [letter for letter in left if unicodedata.category(letter) in ("Cc", "Cs") or letter in (*BIDI, *LINES)]
    left.encode()


def test_all_other_characters_are_kept():
    kept = [
        letter
        for letter in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(letter) not in ("Cc", "Cs") and letter not in (*BIDI, *LINES)
    ]
    assert printable("".join(kept)) == "".join(kept)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jgone", r"\x1b[2Jgone"),
        ("a\x00\x07\x08\r\tb", r"a\x00\x07\x08\x0d\x09b"),
        ("\x7f\x9b31m", r"\x7f\x9b31m"),
        ("\u202etxt.exe\u2069", r"\u202etxt.exe\u2069"),
        ("\udc80", r"\udc80"),
        ("Grüße, 你好, עברית", "Grüße, 你好, עברית"),
    ],
)
def test_what_is_shown(text, shown):
    assert printable(text) == shown


def test_newlines_are_kept_only_where_asked():
    assert printable("a\nb\x1b") == r"a\x0ab\x1b"
    assert printable("a\nb\r\x1b", newlines=True) == "a\nb" + r"\x0d\x1b"


def test_warnings_are_printable_in_a_process_that_says_so():
    said = subprocess.run(
        [
            sys.executable,
            "-c",
            "import warnings\n"
            "from duelenv.ground.terminal import warn_printably\n"
            "warn_printably(); warn_printably()\n"
            "warnings.warn('a name \\x1b]0;mine\\x07')",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    assert r"a name \x1b]0;mine\x07" in said
    assert "\x1b" not in said
