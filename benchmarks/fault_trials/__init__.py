"""Parts of ``benchmarks.faults``: commands on tiny models, faults that strike them, and what must hold after."""
