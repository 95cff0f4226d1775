"""How pages of HTML are made from templates: everything that is text is escaped and shown."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


@cache
def page_environment(package: str = "onesense.report") -> Environment:
    """The templates of a package.

    A value that is missing is an error; text is escaped, and shown without control and direction characters,
    whichever way it came into the template.

    Args:
        package: Whose folder `templates`.
    """
    return Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_shown,
    )


def printable(text: str) -> str:
    """Text with its lines, but without control and direction characters."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)


def encodable(page: str) -> str:
    """The page without halves of surrogate pairs, which have no bytes in UTF-8."""
    return page.encode("utf-8", errors="replace").decode("utf-8")


def _shown(value: object) -> object:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
