"""Every address of the web page, filled with names that a server knows."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fastapi.testclient import TestClient

Read = Callable[[str], Any]
"""Gives the JSON that an address answers."""

INSIDES = re.compile(r'Traceback|site-packages|File "|, line \d+, in |object at 0x')
"""What no answer holds."""

_PART = re.compile(r"\{(\w+)\}")
_FEATURES = ("0", "3")
_FILES = ("report.html", "recipe.json", "result.json", "audit.json", "audit.html", "study.json", "study.html")
_PAGES = {
    "features": "extract",
    "audit": "audit",
    "debias": "debias",
    "study": "study",
    "senses": "senses measure",
}
_FILES += ("units.csv", "audit", "debias", "study")


def known_names(read: Read) -> dict[str, list[str]]:
    """Names that stand in addresses, by the parameter that takes them."""
    runs = [run for section in read("/index.json")["sections"] for run in section["runs"]]
    steer = read("/steer.json")
    benchmarks = [
        item["key"]
        for run in runs
        if run["command"] == "audit" and run["state"] == "finished"
        for item in read(f"/runs/{run['id']}/audit.json")["items"]
    ]
    return {
        "run": [run["id"] for run in runs],
        **{
            f"run of {command}": [run["id"] for run in runs if run["command"] == command and run["links"]]
            for command in _PAGES.values()
        },
        "feature": list(_FEATURES),
        "unit": list(_FEATURES),
        "unit_set": ["features", "residual-basis"],
        "benchmark": list(dict.fromkeys(benchmarks)),
        "recipe": [recipe["id"] for recipe in steer["recipes"]],
        "dictionary": [dictionary["key"] for dictionary in steer["dictionaries"]],
        "command": ["audit", "debias", "study"],
        "name": list(_FILES),
    }


def readable(schema: Mapping[str, Any], names: Mapping[str, list[str]]) -> Iterator[str]:
    """Every address that is read with GET and ends, filled with each of the names.

    Args:
        schema: The OpenAPI schema of the application.
        names: From :func:`known_names`.
    """
    for path, operations in schema["paths"].items():
        if "get" not in operations or path.endswith("/events"):
            continue
        parts = _PART.findall(path)
        needed = [
            one["name"]
            for one in operations["get"].get("parameters", [])
            if one["in"] == "query" and one["required"]
        ]
        for values in itertools.product(*(names[part] for part in parts + needed)):
            given = dict(zip(parts + needed, values, strict=True))
            address = _PART.sub(lambda part, given=given: given[part[1]], path)
            query = "&".join(f"{name}={given[name]}" for name in needed)
            yield f"{address}?{query}" if query else address


def fitting(path: str, names: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """The names with those runs only that the page is of."""
    page = path.removeprefix("/runs/{run}/").partition("/")[0].partition(".")[0]
    command = "extract" if path == "/api/activations" else _PAGES.get(page)
    return {**names, "run": names[f"run of {command}"] if command else names["run"]}


def reader(client: TestClient) -> Read:
    """Reads with a test client."""
    return lambda address: client.get(address).json()


def with_known(value: Any, names: Mapping[str, list[str]], choose: Callable[[list[str]], str]) -> Any:
    """JSON values with names that the server knows in place of made-up ones."""
    if isinstance(value, list):
        return [with_known(one, names, choose) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: choose(names[key])
        if isinstance(one, str) and key != "name" and names.get(key)
        else with_known(one, names, choose)
        for key, one in value.items()
    }
