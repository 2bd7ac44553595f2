"""The line to a model: one request, its bounded answer, what it cost, and what a refusal means; nothing of judging.

Shapes are those of OpenAI's chat completions, as vLLM and SGLang serve them too.
"""

from __future__ import annotations

import functools
import json
import ssl
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from duelenv.ground.errors import UserError
from duelenv.oracles.judge.prices import Prices
from duelenv.oracles.judge.verdicts import Reply, read_reply
from duelenv.oracles.services.retrying import AGAIN, Refused, Unreadable, status_of
from duelenv.oracles.services.secrets import Secret
from duelenv.oracles.services.spending import Cost, Purse

#: How refusals of requests that are too long begin: OpenAI's code, and the sentences of OpenAI and vLLM, and of SGLang.
_TOO_LONG: Final = ("context_length_exceeded", "maximum context length", "model's context length", "context window")


class TooLong(Refused):
    """One request does not fit into the model's context; others may."""


class NoLogProbs(Refused):
    """The server gives no log-probabilities, or not so many."""


class Endpoint:
    """Any OpenAI-compatible chat endpoint.

    Args:
        url: Up to and without "/chat/completions", such as "http://localhost:8000/v1".
        model: Its name there.
        token: Sent as bearer token; None for a server that asks for none.
        parameters: Of every request, besides model and messages.
        max_bytes: Longest answer that is read.
        timeout: Seconds that a request may take as a whole.
        width: Connections that may be open.
        same_model: Refuse answers of other models.
        prices: Of tokens.
        purse: What requests are paid from.

    Raises:
        UserError: The client's package is not installed.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        token: Secret | None,
        parameters: Mapping[str, Any],
        max_bytes: int,
        timeout: float,
        width: int,
        same_model: bool,
        prices: Prices,
        purse: Purse,
    ) -> None:
        try:
            import httpx
            import openai
        except ImportError as error:
            raise UserError(
                f"the oracle 'judge' needs the package {error.name!r}; install it with pip install 'duelenv[services]'"
            ) from error
        self.url, self.model, self.parameters = url, model, dict(parameters)
        self._token, self._same_model = token, same_model
        self._prices, self._purse = prices, purse
        # No redirects: a token is for the address that it was given for. What is compressed may be of any length.
        http: Any = httpx.Client(
            timeout=httpx.Timeout(timeout),
            limits=httpx.Limits(max_connections=width, max_keepalive_connections=width),
            verify=_trusted(),
            follow_redirects=False,
            headers={"accept-encoding": "identity"},
            event_hooks={"response": [_bounded(max_bytes, timeout)]},
        )
        weakref.finalize(self, http.close)
        self._client = openai.OpenAI(
            base_url=url, api_key="none" if token is None else token.reveal(), max_retries=0, http_client=http
        )
        # Which the client takes from the environment, for whatever address.
        self._client.organization = self._client.project = None

    @property
    def spent(self) -> Cost:
        """What was spent from the purse."""
        return self._purse.spent

    def most(self, messages: Sequence[Mapping[str, str]]) -> Cost:
        """Find the most that one request may cost."""
        return self._prices.most(messages, self.parameters)

    def ask(self, messages: Sequence[Mapping[str, str]], *, log_probs: bool) -> Reply:
        """Send one request, once.

        Raises:
            OutOfMoney: The purse does not hold the most that it may cost; nothing was sent.
            Refused: The server will say the same next time.
            Unreadable: What came is no answer.
            Exception: What failed on the way; `retrying.may_be_tried_again` knows which.
        """
        body: dict[str, Any] = {"model": self.model, "messages": list(messages), **self.parameters}
        if log_probs:
            body = {"logprobs": True, "top_logprobs": _TOP, **body}
        with self._purse.reserving(self.most(messages)) as reservation:
            raw = self._post(body, reservation.settle)
            answer = _json(raw)
            spent = self._prices.spent(answer)
            if spent is not None:
                reservation.settle(spent)
            return read_reply(answer, self.model if self._same_model else None)

    def _post(self, body: dict[str, Any], settle: Any) -> bytes:
        import httpx
        import openai

        try:
            response = self._client.post("/chat/completions", cast_to=httpx.Response, body=body)
        except openai.APIConnectionError as error:
            if isinstance(error.__cause__, Unreadable):
                raise error.__cause__ from error
            if isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
                settle(Cost())  # it was never sent
            raise
        except openai.APIStatusError as error:
            settle(Cost())  # no answer was made, and none is charged
            self._refuse(error)
            raise
        return response.content

    def _refuse(self, error: Any) -> None:
        """Say what a refusal for good means.

        Raises:
            Refused: It is one.
        """
        status = status_of(error)
        said = self.clean(_words_of(error))
        about = f"the model {self.model!r} at {self.url!r}"
        if status in (401, 403):
            which = "takes no request without a token" if self._token is None else "refuses the token"
            raise Refused(
                f"{about} {which} (HTTP {status}: {said}); renew it where 'token' names it and run it again"
            ) from None
        if status == 402:
            raise Refused(f"{about} wants to be paid first (HTTP 402: {said}); the same command goes on then") from None
        if status == 404:
            raise Refused(
                f"there is no {about.removeprefix('the ')} (HTTP 404: {said}); correct 'model' or 'url'"
            ) from None
        if status == 413 or (status == 400 and any(words in said for words in _TOO_LONG)):
            raise TooLong(f"{about} cannot take so long a request (HTTP {status}: {said})") from None
        if status in (400, 422) and "logprobs" in said:
            raise NoLogProbs(
                f"{about} gives no log-probabilities (HTTP {status}: {said}); set 'verdict' to word, or "
                "'parameters.top_logprobs' to a number that it takes"
            ) from None
        if status is not None and 300 <= status < 400:
            where = self.clean(error.response.headers.get("location", "elsewhere"))[:200]
            raise Refused(f"{self.url!r} sends on to {where!r}, where no token is sent; correct 'url'") from None
        if status == 429 and "insufficient_quota" in said:
            raise Refused(f"the account at {self.url!r} is used up ({said}); the same command goes on then") from None
        if status is not None and status < 500 and status not in AGAIN:
            raise Refused(
                f"{about} refuses the request (HTTP {status}: {said}); correct 'parameters', or 'system' where it "
                "takes no such role"
            ) from None

    def clean(self, text: str) -> str:
        """Clean a text of the server's: without the token, on one line and not too long."""
        hidden = text if self._token is None else self._token.hidden_in(text)
        line = " ".join(hidden.split())
        return line if len(line) <= 300 else line[:300] + "..."


#: Log-probabilities of so many tokens: OpenAI gives 20 at most, vLLM 20 unless started with another `--max-logprobs`.
_TOP: Final = 20


def _words_of(error: Any) -> str:
    """Find what a server says of a refusal: its code and message where they should be, else the body."""
    body = getattr(error, "body", None)
    inner = body.get("error", body) if isinstance(body, Mapping) else body
    if isinstance(inner, Mapping):
        return " ".join(str(inner[key]) for key in ("code", "message") if inner.get(key) not in (None, ""))
    text = error.response.text
    return str(text)[:2000] or "no reason given"


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"the answer is no JSON ({len(raw)} bytes)") from error


@functools.cache
def _trusted() -> ssl.SSLContext:
    """Read who is trusted, once: reading the certificates takes longer than a hundred requests."""
    import httpx

    return httpx.create_ssl_context()


def _bounded(max_bytes: int, seconds: float) -> Any:
    """Make an HTTP client's hook that lets no answer be longer than so many bytes, or take longer than so long."""
    import httpx

    class Bounded(httpx.SyncByteStream):
        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def __iter__(self) -> Iterator[bytes]:
            size, end = 0, time.monotonic() + seconds
            for chunk in self._inner:
                size += len(chunk)
                if size > max_bytes:
                    raise Unreadable(f"the answer is longer than {max_bytes} bytes")
                if time.monotonic() > end:
                    raise Unreadable(f"the answer was not complete within {seconds:g} s")
                yield chunk

        def close(self) -> None:
            self._inner.close()

    def hook(response: httpx.Response) -> None:
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise Unreadable("the answer is compressed, though that was not asked for")
        response.stream = Bounded(response.stream)

    return hook
