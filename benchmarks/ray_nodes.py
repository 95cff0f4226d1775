"""A Ray cluster of several nodes on this machine, for benchmarks and tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_worker_niceness", "0")  # others work beside


@contextmanager
def ray_nodes(*cores: int, join: bool = True) -> Iterator[Any]:
    """A cluster with a node for each number of cores, in ``nodes``; the driver has none of them.

    Args:
        cores: Of each node.
        join: Whether this process works with it.
    """
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        cluster.nodes = [cluster.add_node(num_cpus=count) for count in cores]
        if join:
            ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        cluster.wait_for_nodes()
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()
