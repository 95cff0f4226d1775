"""Pages and their JSON twins from one function each, and errors as either.

A page is a function that returns a ``View``. Its address gives HTML; the same address with ``.json`` gives the
data that the HTML was made of.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from onesense import __version__
from onesense.report.pages import encodable, page_environment, printable

_PACKAGE = "onesense.web"
_SEE_OTHER = 303
_NEWLINE, _TAB, _SPACE = "⏎", "⇥", "·"


@dataclass(frozen=True, slots=True)
class View:
    """What a page shows.

    Attributes:
        title: Of the page.
        data: JSON values; the template sees them by name, the twin is just these. NaN and infinity become null.
        drawn: What only the HTML has, by name: finished SVG or HTML made from the data.
    """

    title: str
    data: Mapping[str, Any]
    drawn: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """In place of a view: what is asked for has a page of its own.

    Attributes:
        address: Of that page, without a query.
    """

    address: str


class Pages(APIRouter):
    """A router whose pages have JSON twins."""

    def page(
        self, path: str, template: str
    ) -> Callable[[Callable[..., View | Elsewhere]], Callable[..., View | Elsewhere]]:
        """Answer ``path`` with a template, and ``path.json`` with the data ("/" has the twin "/index.json").

        The function takes path and query parameters like any of FastAPI's, and ``request`` if it wants it.

        Args:
            path: The address.
            template: File in ``templates``.
        """

        def register(function: Callable[..., View | Elsewhere]) -> Callable[..., View | Elsewhere]:
            twin = "/index.json" if path == "/" else f"{path}.json"
            # The twin first: a parameter would take ".json" for a part of itself.
            self.add_api_route(twin, _as_json(function), response_class=JSONResponse, response_model=None)
            self.add_api_route(
                path, _as_html(function, template), response_class=HTMLResponse, response_model=None
            )
            return function

        return register


def html(request: Request, template: str, view: View, status: int = 200) -> HTMLResponse:
    """A page as HTML."""
    environment = page_environment(_PACKAGE)
    environment.filters.update(number=number, percent=percent, token=visible_token)
    page = environment.get_template(template).render(
        title=view.title,
        path=request.url.path,
        version=__version__,
        **view.data,
        **view.drawn,
    )
    return HTMLResponse(encodable(page), status)


def json_answer(data: Any, status: int = 200) -> JSONResponse:
    """JSON that any browser can read: NaN and infinity are null, broken characters replaced."""
    return JSONResponse(finite(data), status)


def finite(value: Any) -> Any:
    """JSON values without NaN, infinity, or halves of surrogate pairs."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value if value.isascii() else encodable(value)
    if isinstance(value, Mapping):
        return {encodable(str(key)): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def wants_html(request: Request) -> bool:
    """Whether an error should be a page: a browser asked for one."""
    path = request.url.path
    return (
        not path.endswith(".json")
        and not path.startswith("/api/")
        and "text/html" in request.headers.get("accept", "")
    )


def error_answer(request: Request, status: int, message: str, hint: str | None = None) -> Response:
    """An error, as a page or as JSON."""
    if wants_html(request):
        view = View(
            "Not here" if status == 404 else "That did not work", {"error": message, "hint": hint or ""}
        )
        return html(request, "error.html.j2", view, status)
    return json_answer({"error": message, "hint": hint}, status)


def number(value: float | None, digits: int = 3) -> str:
    """A number for people: so many significant digits, a real minus, a dash for nothing."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:,.{digits}g}".replace("-", "−") if abs(value) < 1e4 else f"{value:,.0f}".replace("-", "−")


def percent(value: float | None, digits: int = 2) -> str:
    """A share as a percentage with so many significant digits."""
    return "–" if value is None else f"{number(100 * value, digits)} %"


def visible_token(text: str) -> str:
    """A token whose spaces and line breaks can be seen."""
    return printable(text.replace("\n", _NEWLINE).replace("\t", _TAB).replace(" ", _SPACE)) or "∅"


def _as_html(function: Callable[..., View | Elsewhere], template: str) -> Callable[..., Response]:
    def answer(request: Request, arguments: dict[str, Any]) -> Response:
        view = function(**arguments)
        if isinstance(view, Elsewhere):
            return RedirectResponse(view.address, _SEE_OTHER)
        return html(request, template, view)

    return _with_request(function, answer)


def _as_json(function: Callable[..., View | Elsewhere]) -> Callable[..., Response]:
    def answer(request: Request, arguments: dict[str, Any]) -> Response:
        del request
        view = function(**arguments)
        if isinstance(view, Elsewhere):
            return RedirectResponse(f"{view.address}.json", _SEE_OTHER)
        return json_answer(view.data)

    return _with_request(function, answer)


def _with_request(
    function: Callable[..., View | Elsewhere], answer: Callable[[Request, dict[str, Any]], Any]
) -> Callable[..., Any]:
    """A function with the parameters of ``function``, and the request, whether that wants it or not."""
    signature = inspect.signature(function, eval_str=True)
    wants_request = "request" in signature.parameters

    @functools.wraps(function)
    def endpoint(request: Request, **arguments: Any) -> Any:
        if wants_request:
            arguments["request"] = request
        return answer(request, arguments)

    others = [one for name, one in signature.parameters.items() if name != "request"]
    parameter = inspect.Parameter("request", inspect.Parameter.KEYWORD_ONLY, annotation=Request)
    keyword_only = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in others]
    endpoint.__signature__ = inspect.Signature([parameter, *keyword_only])  # type: ignore[attr-defined]
    return endpoint
