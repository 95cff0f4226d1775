"""Remake the packaged data: ``python -m onesense.recipes sample`` or ``… dictionaries``."""

from __future__ import annotations

import argparse
from pathlib import Path


def main() -> None:
    """Run one recipe."""
    parser = argparse.ArgumentParser(prog="python -m onesense.recipes", description=__doc__)
    recipes = parser.add_subparsers(dest="recipe", required=True)
    sample = recipes.add_parser("sample", help="write the sample text with the demo model itself")
    sample.add_argument("--output", type=Path, required=True)
    sample.add_argument("--documents", type=int, default=520)
    dictionaries = recipes.add_parser("dictionaries", help="train the demo dictionaries")
    dictionaries.add_argument("--text", action="append", required=True, help="file or folder; may be repeated")
    dictionaries.add_argument("--work", type=Path, required=True, help="folder for activations and checkpoints")
    dictionaries.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.recipe == "sample":
        from onesense.recipes.sample_text import write_sample

        write_sample(arguments.output, documents=arguments.documents)
    else:
        from onesense.recipes.dictionaries import train_demo_dictionaries

        train_demo_dictionaries(arguments.text, arguments.work, arguments.output)


if __name__ == "__main__":
    main()
