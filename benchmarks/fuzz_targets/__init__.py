"""Parts of ``benchmarks.fuzz``: what reads files of others, each with good files to begin with."""
