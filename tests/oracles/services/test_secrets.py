"""Tokens stand in the environment or in a file, and nowhere else."""

from __future__ import annotations

import pickle
import re
import warnings
from pathlib import Path

import pytest

from duelenv.ground.errors import UserError
from duelenv.oracles import make
from duelenv.oracles.services.secrets import read_secret, token_for


def test_a_token_is_read_from_the_environment_or_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("A_TOKEN", "abc-123 ")
    (tmp_path / "token").write_text("def-456\nsecond line\n")
    for place, value in (({"env": "A_TOKEN"}, "abc-123"), ({"file": str(tmp_path / "token")}, "def-456")):
        secret = read_secret("token", place)
        assert secret is not None and secret.reveal() == value
        assert value not in f"{secret!r} {secret} {vars(secret).keys()}"
        assert secret.hidden_in(f"refused: {value}") == "refused: ***"
        with pytest.raises(TypeError):
            pickle.dumps(secret)
    assert read_secret("token", None) is None


@pytest.mark.parametrize("place", ["sk-very-secret", {"env": "A", "file": "b"}, {"value": "sk-very-secret"}, 7])
def test_a_token_itself_is_refused_and_not_repeated(place: object) -> None:
    with pytest.raises(UserError, match=re.escape("expected {env: NAME} or {file: PATH}")) as caught:
        read_secret("token", place)
    assert "sk-very-secret" not in str(caught.value)


@pytest.mark.parametrize("value", ["", "  ", "two words", "ümlaut"])
def test_what_no_header_can_hold_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("A_TOKEN", value)
    with pytest.raises(UserError):
        read_secret("token", {"env": "A_TOKEN"})


@pytest.mark.parametrize(
    ("url", "bare"),
    [
        ("http://gpu.example.org:8000/v1", True),
        ("HTTP://10.0.0.7", True),
        ("http://127.0.0.1.example.org", True),
        ("https://gpu.example.org", False),
        ("http://127.0.0.1:8000", False),
        ("http://[::1]:8000", False),
        ("http://localhost", False),
    ],
)
def test_a_token_that_others_can_read_on_its_way_is_warned_about(url, bare, monkeypatch) -> None:
    monkeypatch.setenv("OF_TEST", "very-secret")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert token_for(url, {"env": "OF_TEST"}).reveal() == "very-secret"
        assert token_for(url, None) is None
    said = [str(one.message) for one in caught]
    assert len(said) == bare and all("https://" in one and "very-secret" not in one for one in said)


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "judge", "url": "http://gpu.example.org/v1", "model": "m"},
        {"name": "reward_server", "url": "http://gpu.example.org", "api": "vllm_classify"},
        {"name": "remote", "url": "http://gpu.example.org"},
    ],
    ids=lambda settings: settings["name"],
)
def test_every_client_of_an_address_warns(settings, monkeypatch) -> None:
    monkeypatch.setenv("OF_TEST", "very-secret")
    with pytest.warns(UserWarning, match=r"'gpu\.example\.org' crosses the network in the clear"):
        make(**settings, token={"env": "OF_TEST"})
