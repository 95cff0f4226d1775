"""onesense: find a language model's gender-bias features, give each one sense, tune them, prove it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onesense.debias.export.plain import load

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> object:
    """``load`` on first use: it needs torch and transformers, which take seconds."""
    if name != "load":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from onesense.debias.export.plain import load

    globals()["load"] = load
    return load
