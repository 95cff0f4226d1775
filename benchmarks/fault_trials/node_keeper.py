"""Keeps a Ray cluster of two nodes, and takes one away when asked: a number on a line of standard input.

It says the cluster's address, then one word for each line it is given, and ends with its standard input. The cluster
has a process of its own because the trials fork, which a process with the threads of Ray must not do.
"""

from __future__ import annotations

import os
import sys

from benchmarks.ray_nodes import ray_nodes


def main() -> None:
    """Keep the cluster until standard input ends."""
    told = os.dup(1)
    os.dup2(2, 1)  # what Ray prints is no answer
    lost = 0
    with ray_nodes(1, 1, join=False) as cluster:
        os.write(told, f"{cluster.address}\n".encode())
        for line in sys.stdin:
            if line.strip() != "count":
                cluster.remove_node(cluster.nodes[int(line)], allow_graceful=False)
                lost += 1
            os.write(told, f"{lost}\n".encode())


if __name__ == "__main__":
    main()
