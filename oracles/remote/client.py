"""The oracle `remote`: asks the server that `duelenv serve` runs, and never takes what it did not ask for.

A duel travels under an id that follows from its texts, so that a question may be put as often as the connection fails:
the server answers a repeated one from its record. Not for utilities: the truth stays with the server.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

import numpy as np

from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.oracles.base import Preferences, Unanswered
from duelenv.oracles.remote.wire import PATH, Duel, Reply, make_duel, question, reply
from duelenv.oracles.services.retrying import (
    Pace,
    Patience,
    Refused,
    Unreadable,
    persistently,
    side_by_side,
    status_of,
)
from duelenv.oracles.services.secrets import Secret, read_secret, token_for
from duelenv.oracles.sources import Answer

if TYPE_CHECKING:
    import httpx

#: Bytes of an answer to a batch, at most: so much, and so much for each duel.
_LONGEST, _LONGEST_EACH = 65_536, 1_024
#: Characters of a server's own sentence that are repeated.
_SENTENCE: Final = 300


class Gathered(NamedTuple):
    """What came back for some duels.

    Attributes:
        answers: By id.
        fault: Why others could not be asked about; empty where all could.
        message: What the server says of those that have no answer now.
    """

    answers: dict[str, Answer]
    fault: str
    message: str


class Remote:
    """An oracle behind an address. Safe to be asked from several threads.

    Args:
        url: Address of the server, such as "http://127.0.0.1:8000".
        token: Where its token stands, `{"env": NAME}` or `{"file": PATH}`; None for a server without one. It is read
            again when the server refuses it.
        salt: Duels with equal texts and equal salt are one question, answered once, whoever asks. Another salt asks
            anew.
        batch: Duels in one request, at most.
        patience: Settings of `duelenv.oracles.services.retrying.Patience`.

    Raises:
        UserError: A setting is refused, the token is missing, or httpx is.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Mapping[str, str] | None = None,
        salt: str = "",
        batch: int = 64,
        patience: Mapping[str, Any] | Patience | None = None,
    ) -> None:
        self.url = _address(url)
        if not isinstance(salt, str):
            raise UserError(f"'salt' is {salt!r}, expected text; quote a number")
        self.salt = salt
        self.batch = checks.integer("batch", batch, low=1)
        self.patience = patience if isinstance(patience, Patience) else _patience(patience)
        self._place, self._token = token, token_for(self.url, token)
        self._pace = Pace(self.patience.rate)
        self._lock = threading.Lock()
        self._client: httpx.Client | None = None
        _httpx()

    def __call__(self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str], /) -> Preferences:
        """Ask about N duels; equal ones are asked about once.

        Raises:
            Unanswered: The server cannot be reached, refuses, or has no answer to some; what it did answer is in it.
        """
        duels = [make_duel(self.salt, *texts) for texts in zip(prompts, first, second, strict=True)]
        gathered = self.gather(duels)
        known = [gathered.answers.get(duel.id) for duel in duels]
        preferences = Preferences(
            np.array([np.nan if answer is None else answer.win for answer in known], np.float64),
            np.array([0.0 if answer is None else answer.tie for answer in known], np.float64),
        )
        answered = np.array([answer is not None for answer in known], np.bool_)
        if answered.all():
            return preferences
        why = gathered.fault or gathered.message or "it does not say why"
        raise Unanswered(
            f"{self.url} left {int((~answered).sum())} of {len(duels)} duels unanswered ({why}); what it answered is "
            "kept, and the same command goes on",
            preferences,
            answered,
        )

    def gather(self, duels: Sequence[Duel]) -> Gathered:
        """Ask about duels, several requests at once, and return what came back; never raises what a server causes."""
        single = list({duel.id: duel for duel in duels}.values())
        batches = [single[start : start + self.batch] for start in range(0, len(single), self.batch)]
        over = threading.Event()

        def answered(batch: Sequence[Duel]) -> Reply:
            if over.is_set():  # what one batch did not get with all patience, the next would not either
                return Reply({}, "")
            try:
                return self._answered(batch)
            except Exception:
                over.set()
                raise

        answers: dict[str, Answer] = {}
        fault = message = ""
        for _, result in side_by_side(answered, batches, self.patience.width):
            if isinstance(result, Exception):
                fault = fault or self._said(result)
            else:
                answers |= result.answers
                message = message or result.message
        return Gathered(answers, fault, message)

    def fault(self, words: str) -> UserError:
        """Make the error of a source that could not ask, or got no answer."""
        return UserError(
            f"{self.url} did not answer ({words}); what was answered is kept, and the same command goes on"
        )

    def close(self) -> None:
        """Close its connections; the next question opens new ones."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to this process; the token is read where it stands."""
        state = {name: getattr(self, name) for name in ("url", "salt", "batch", "patience")}
        return {**state, "token": self._place}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def _answered(self, duels: Sequence[Duel]) -> Reply:
        try:
            return persistently(lambda: self._attempt(duels), self.patience)
        except Exception as error:
            if status_of(error) != 413 or len(duels) == 1:
                raise
            # Too long for one request; the halves may not be.
            half = len(duels) // 2
            one, two = self._answered(duels[:half]), self._answered(duels[half:])
            return Reply(one.answers | two.answers, one.message or two.message)

    def _attempt(self, duels: Sequence[Duel]) -> Reply:
        import httpx

        self._pace()
        token = self._token
        # Nothing compressed: a small body may unfold into one without end.
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if token is not None:
            headers["authorization"] = f"Bearer {token.reveal()}"
        longest = _LONGEST + _LONGEST_EACH * len(duels)
        with self._opened().stream("POST", PATH, content=question(duels), headers=headers) as response:
            raw = _read(response, longest, time.monotonic() + self.patience.timeout)
            if response.status_code == 401 and self._renewed(token):
                raise Unreadable("the token has changed")
            if response.status_code == 409:
                raise Refused(f"another question has the id of one of these: {_sentence(raw)}")
            if response.status_code != 200:
                raise httpx.HTTPStatusError(_sentence(raw), request=response.request, response=response)
        return reply(raw, {duel.id for duel in duels})

    def _renewed(self, refused: Secret | None) -> bool:
        """Read the token again where it stands; whether it is another than the one that was refused."""
        with self._lock:
            self._token = read_secret("token", self._place)
            return refused is not None and self._token is not None and self._token.reveal() != refused.reveal()

    def _opened(self) -> httpx.Client:
        import httpx

        with self._lock:
            if self._client is None:
                limits = httpx.Limits(
                    max_connections=self.patience.width, max_keepalive_connections=self.patience.width
                )
                # Whoever waits for a connection waits for others of the same oracle.
                timeout = httpx.Timeout(self.patience.timeout, pool=None)
                self._client = httpx.Client(base_url=self.url, timeout=timeout, limits=limits)
            return self._client

    def _said(self, error: Exception) -> str:
        """Say what went wrong, in a few words that hold no token.

        Raises:
            Exception: The error itself, where it is a mistake in a program and says nothing of the server.
        """
        import httpx

        status = status_of(error)
        if status is not None:
            words = f"HTTP {status}" + (f": {error}" if str(error) else "")
        elif isinstance(error, UserError | Unreadable):
            words = str(error)
        elif isinstance(error, httpx.HTTPError | OSError):
            words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        else:
            raise error
        return words if self._token is None else self._token.hidden_in(words)


def _httpx() -> None:
    try:
        import httpx  # noqa: F401
        import tenacity  # noqa: F401
    except ImportError as error:
        raise UserError("the oracle 'remote' needs httpx and tenacity: pip install 'duelenv[services]'") from error


def _patience(settings: Mapping[str, Any] | None) -> Patience:
    given = checks.mapping("patience", settings)
    checks.refuse_unknown("patience", given, Patience.__dataclass_fields__)
    return Patience(**given)


def _address(url: object) -> str:
    given = checks.text("url", url).strip().rstrip("/")
    try:
        parts = urlsplit(given)
    except ValueError as error:
        raise UserError(f"'url' is {given!r}, which is no address ({error}); correct it") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"'url' is {given!r}, expected an address such as 'http://127.0.0.1:8000'")
    if parts.username or parts.password:
        raise UserError("'url' holds a name or password, which configs would save; give a token by {env: NAME}")
    return given


def _read(response: httpx.Response, longest: int, until: float) -> bytes:
    """Read the body, unless it is too long or drips in for ever."""
    pieces: list[bytes] = []
    length = 0
    for piece in response.iter_raw():
        pieces.append(piece)
        length += len(piece)
        if length > longest:
            raise Unreadable(f"the answer is longer than {longest:,} bytes")
        if time.monotonic() > until:
            raise TimeoutError("the answer takes too long")
    return b"".join(pieces)


def _sentence(raw: bytes) -> str:
    """Cut a server's own words short, as far as they are words."""
    import json

    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return ""
    said = body.get("detail", "") if isinstance(body, dict) else ""
    return " ".join(said.split())[:_SENTENCE] if isinstance(said, str) else ""
