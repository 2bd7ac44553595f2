"""What stands between the page and other pages: whose requests are let in, and what a browser may do with answers.

- The name in the `Host` header is one of this machine's own, so that no foreign name that leads to it (DNS rebinding)
  is served; where the page is open to other machines, a token stands in its place.
- What changes something comes from the page itself: by `Origin`, or where a browser sends none, by `Sec-Fetch-Site`.
- The answer forbids every resource but the page's own, and to be framed.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from duelenv.ground.addresses import is_loopback

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from duelenv.oracles.services.secrets import Secret

PASS: Final = "duelenv_pass"
"""Cookie that shows that its bearer once gave the token."""

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    # With "no-referrer" a browser would send `Origin: null` with the page's own forms.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}

_SAFE: Final = ("GET", "HEAD")
#: What anybody may see: the form for the token, and what it looks like.
_OPEN: Final = ("/enter", "/static/")


class Guard:
    """Lets requests in or refuses them.

    Args:
        token: What lets in where the page is open to other machines; None where it is not.
    """

    def __init__(self, token: Secret | None) -> None:
        self._token = token

    async def __call__(self, request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
        """Answer a request, or say why not (Starlette's HTTP middleware)."""
        from starlette.responses import PlainTextResponse, RedirectResponse

        refused = self.refusal(request)
        if refused is not None:
            response: Response = PlainTextResponse(refused, 403)
        elif self._token is not None and not request.url.path.startswith(_OPEN) and not self.knows(request):
            response = (
                RedirectResponse("/enter", 303) if request.method in _SAFE else PlainTextResponse("no token", 403)
            )
        else:
            response = await call(request)
        for name, value in HEADERS.items():
            response.headers[name] = value
        return response

    def refusal(self, request: Request) -> str | None:
        """Find why a request is not let in whoever sends it; None where it is."""
        host = request.headers.get("host", "")
        if self._token is None and not is_loopback(_name_of(host)):
            return "This page is for this machine alone: open it under 127.0.0.1 or localhost."
        if request.method in _SAFE:
            return None
        origin = request.headers.get("origin")
        if origin is not None:
            # What stands before a proxy may speak TLS, so that the scheme is not known here.
            return None if urlsplit(origin).netloc == host else "This came from another page, and was not taken."
        if request.headers.get("sec-fetch-site") == "same-origin":
            return None
        return "This came without an origin, and was not taken."

    # The token -------------------------------------------------------------------------------------------------------

    @property
    def wants_token(self) -> bool:
        """Whether a token is needed at all."""
        return self._token is not None

    def admits(self, given: str) -> bool:
        """Tell whether what somebody typed is the token, in a time that does not tell how much of it is."""
        if self._token is None:
            return True
        return hmac.compare_digest(_proof(given), _proof(self._token.reveal()))

    def proof(self) -> str:
        """Derive what the cookie of somebody holds who gave the token: made of it, and not it."""
        return "" if self._token is None else _proof(self._token.reveal())

    def knows(self, request: Request) -> bool:
        """Tell whether a request carries that cookie."""
        return hmac.compare_digest(cookie(request, PASS).encode(), self.proof().encode())


def _proof(token: str) -> str:
    return hmac.new(token.encode("utf-8", "replace"), b"duelenv label", hashlib.sha256).hexdigest()


def _name_of(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def cookie(request: Request, name: str) -> str:
    """Read the value of a cookie; empty where there is none, or the header is none."""
    try:
        morsel = SimpleCookie(request.headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return "" if morsel is None else morsel.value
