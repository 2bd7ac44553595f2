"""Checks of settings: what their sentences end with."""

from duelenv.experiments.checks import choices


def test_choices_ends_every_sentence_with_what_is_possible():
    assert "choose from a, b" in choices("zzz", ["b", "a"])
    assert "none can be set" in choices("zzz", [])
