"""Compilation where its result cannot be kept."""

from __future__ import annotations

from onesense.features import compiled as compiled_module


def test_compiles_where_no_cache_can_be_written(monkeypatch) -> None:
    original = compiled_module.numba.njit

    def without_cache(*arguments, **options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return original(*arguments, **options)

    monkeypatch.setattr(compiled_module.numba, "njit", without_cache)

    @compiled_module.compiled
    def double(number):
        return 2 * number

    assert double(21) == 42
