"""One request over HTTP: bounded in time and size, its refusals told in a sentence, its token in no message."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from duelenv.ground.errors import UserError
from duelenv.ground.terminal import printable
from duelenv.oracles.services.retrying import AGAIN, Refused, Unreadable
from duelenv.oracles.services.secrets import Secret


class Transport:
    """Posts JSON to an address.

    Args:
        url: The server's address, with scheme.
        token: Sent as a bearer token.
        timeout: Seconds that one request may take, from first to last byte.
    """

    def __init__(self, url: str, token: Secret | None, timeout: float) -> None:
        try:
            import httpx
        except ImportError as error:
            raise UserError("a reward server needs httpx: pip install 'duelenv[services]'") from error
        if not url.startswith(("http://", "https://")):
            raise UserError(f"url is {url!r}, expected an address that begins with http:// or https://; correct it")
        self._url, self._token, self._timeout = url.rstrip("/"), token, timeout
        headers = {} if token is None else {"authorization": f"Bearer {token.reveal()}"}
        try:
            # No redirect is followed: whoever asks for one would get the token.
            # Without TLS there is no certificate to check, and reading the authorities' takes a tenth of a second.
            secure = url.startswith("https://")
            self._client = httpx.Client(headers=headers, timeout=timeout, follow_redirects=False, verify=secure)
            self._client.build_request("POST", self._url)
        except (httpx.InvalidURL, ValueError) as error:
            raise UserError(f"url is {url!r}, which is no address ({error}); correct it") from error

    def post(self, path: str, body: Mapping[str, Any], most_bytes: int) -> Any:
        """Post a request, and read the JSON that answers.

        Raises:
            Unreadable: It is no JSON, or larger than `most_bytes`.
            Refused: The server will say no the next time too.
            httpx.HTTPError: The connection failed, or the server says that it cannot now.
            TimeoutError: The answer takes too long, though bytes keep coming.
        """
        until = time.monotonic() + self._timeout
        raw = bytearray()
        with self._client.stream("POST", self._url + path, json=dict(body)) as response:
            for part in response.iter_bytes(2**16):
                raw += part
                if len(raw) > most_bytes:
                    raise Unreadable(f"an answer of more than {most_bytes:,} bytes")
                if time.monotonic() > until:
                    raise TimeoutError(f"no whole answer within {self._timeout:g} seconds")
            if response.status_code in AGAIN:
                response.raise_for_status()
            if response.status_code != 200:
                raise Refused(self._refusal(path, response.status_code, bytes(raw)))
        try:
            return json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise Unreadable(f"no JSON ({type(error).__name__})") from error

    def _refusal(self, path: str, status: int, raw: bytes) -> str:
        said = printable(raw[:1000].decode("utf-8", "replace"))[:200]
        said = said if self._token is None else self._token.hidden_in(said)
        advice = {
            401: "check the token: it may be wrong, or have expired",
            403: "check what the token may do",
            404: "check the address, the 'api' and the name of the model",
            413: "set a smaller 'batch_size'",
            424: "this model has no such task: choose another 'api'",
        }.get(status, "correct what was asked")
        return f"{self._url}{path} answers {status} ({said or 'without a word'}); {advice}"
