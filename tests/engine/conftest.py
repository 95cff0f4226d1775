"""A cluster of two nodes for each file of tests, and an executor on it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from ray import cloudpickle

from benchmarks.ray_nodes import ray_nodes
from onesense.engine.ray_executor import RayExecutor


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[Any]:
    # The workers' Python does not find the tests.
    tests = sys.modules[request.module.__name__]
    cloudpickle.register_pickle_by_value(tests)
    with ray_nodes(1, 1) as cluster:
        yield cluster
    cloudpickle.unregister_pickle_by_value(tests)


@pytest.fixture
def executor(cluster: Any) -> Iterator[RayExecutor]:
    with closing(RayExecutor("auto", threads=1)) as executor:
        yield executor
