"""Who may ask: this machine's own pages only, whatever a browser was talked into.

A page elsewhere can send requests to loopback, and by DNS rebinding read the answers. So the Host must be a
name of this machine with our port, the Origin must be ours, a request that another site began is refused,
and whatever changes something needs a header that no form and no simple request can carry.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CHANGE_HEADER = "x-onesense"
"""Must be there, with any value, on every request that changes something or starts work."""

MOST_BYTES = 1_000_000
"""Of a request's body."""

_TOO_LARGE = "The request is too large."
_MOST_DIGITS = 12
_NAMES = ("127.0.0.1", "localhost", "[::1]")
_DEFAULT_PORT = 80
_READING = ("GET", "HEAD")
_OTHER_SITES = ("cross-site", "same-site")

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
"""On every answer."""


class Refusal(NamedTuple):
    """Why a request is not answered."""

    status: int
    message: str
    hint: str


class LocalOnly:
    """ASGI middleware that refuses what did not come from our own pages, and puts ``HEADERS`` on every answer.

    Args:
        app: What answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # there are no web sockets here

        limited = _Limited(receive)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                limited.answering = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        refusal = refuse(scope)
        if refusal is not None:
            body = {"error": refusal.message, "hint": refusal.hint}
            answer = JSONResponse(body, refusal.status, headers={"connection": "close"})
            await answer(scope, receive, send_with_headers)
            return
        await self._app(scope, limited, send_with_headers)


def refuse(scope: Scope) -> Refusal | None:
    """Why this request is not answered; None where it is.

    Args:
        scope: The ASGI scope of an HTTP request.
    """
    headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]
    hosts = _values(headers, "host")
    server = scope.get("server") or ("127.0.0.1", _DEFAULT_PORT)
    if len(hosts) != 1 or hosts[0] not in _own_hosts(server[1]):
        return Refusal(
            421, "This address is not one of this page.", "Open it as http://127.0.0.1 with the port shown."
        )
    origins = _values(headers, "origin")
    if origins and origins != [f"http://{hosts[0]}"]:
        return Refusal(403, "Another page asked for this.", "Open onesense in a window of its own.")
    lengths = _values(headers, "content-length")
    if any(not one.isdecimal() or len(one) > _MOST_DIGITS or int(one) > MOST_BYTES for one in lengths):
        return Refusal(413, _TOO_LARGE, f"Send at most {MOST_BYTES:,} bytes.")
    reading = scope["method"] in _READING
    if _of_another_site(headers, reading=reading):
        return Refusal(403, "Another site asked for this.", "Open onesense in a window of its own.")
    if not reading:
        return _refuse_change(headers)
    return None


def _refuse_change(headers: Iterable[tuple[str, str]]) -> Refusal | None:
    if not _values(headers, CHANGE_HEADER):
        return Refusal(
            403, "A request that changes something needs a header.", f"Send the header {CHANGE_HEADER}: 1."
        )
    kinds = [one.partition(";")[0].strip().lower() for one in _values(headers, "content-type")]
    if any(kind != "application/json" for kind in kinds):
        return Refusal(415, "Only JSON is taken.", "Send it with content-type: application/json.")
    return None


def _of_another_site(headers: Iterable[tuple[str, str]], *, reading: bool) -> bool:
    """Whether a browser says that another site began it; a link that somebody followed to a page may stay."""
    begun_by = _values(headers, "sec-fetch-site")
    followed = (
        reading
        and _values(headers, "sec-fetch-mode") == ["navigate"]
        and _values(headers, "sec-fetch-dest") == ["document"]
    )
    return any(one in _OTHER_SITES for one in begun_by) and not followed


def _own_hosts(port: int | None) -> set[str]:
    named = {f"{name}:{port}" for name in _NAMES}
    return named | set(_NAMES) if port == _DEFAULT_PORT else named


def _values(headers: Iterable[tuple[str, str]], wanted: str) -> list[str]:
    return [value for name, value in headers if name == wanted]


class _Limited:
    """Ends a body that is longer than it said: the rest is not read."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._seen = 0
        self.answering = False
        """Whether the answer has begun: it cannot become a refusal any more."""

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._seen += len(message.get("body", b""))
            if self._seen > MOST_BYTES:
                if self.answering:
                    return {"type": "http.disconnect"}
                raise HTTPException(413, _TOO_LARGE, headers={"connection": "close"})
        return message
