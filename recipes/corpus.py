"""Gather and shuffle the text that the demo dictionaries are trained on.

The text: public-domain novels and speeches, film reviews, encyclopaedic snippets (GAP), Wikipedia articles
(the validation split of WikiText-2) and what the model writes by itself. It is cut into pieces of about 8,000
characters, shuffled with a fixed seed, and written as JSON lines.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path

from onesense.store.atomic import write_text

_PIECE = 8_000
_SEED = 3


def texts(data: Path) -> Iterator[str]:
    """Every text of the mirror that is fit to train on."""
    for novel in sorted((data / "corpus" / "novels").glob("*.txt")):
        yield novel.read_text(encoding="utf-8", errors="replace")
    for archive in sorted((data / "corpus").glob("*.zip")):
        with zipfile.ZipFile(archive) as opened:
            for name in sorted(opened.namelist()):
                if name.endswith(".txt") and "README" not in name:
                    yield opened.read(name).decode("utf-8", errors="replace")
    for snippets in sorted((data / "gap").glob("*.tsv")):
        with snippets.open(encoding="utf-8", newline="") as rows:
            yield from (row["Text"] for row in csv.DictReader(rows, delimiter="\t"))
    articles = (data / "wikitext2" / "valid_with_unk.txt").read_text(encoding="utf-8")
    yield articles.replace("<unk>", "something")


def pieces(text: str) -> Iterator[str]:
    """Cut a text at line ends (or spaces) into pieces of about ``_PIECE`` characters."""
    while text:
        cut = (
            len(text) if len(text) <= _PIECE else max(text.rfind("\n", 0, _PIECE), text.rfind(" ", 0, _PIECE))
        )
        cut = cut if cut > 0 else _PIECE
        yield text[:cut].strip("\n")
        text = text[cut:].lstrip("\n")


def main() -> None:
    """``python -m recipes.corpus --data MIRROR [--written FILE] --output FILE``."""
    parser = argparse.ArgumentParser(prog="python -m recipes.corpus", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder in the layout of ONESENSE_DATA")
    parser.add_argument(
        "--written", type=Path, action="append", default=[], help="JSON lines the model wrote"
    )
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    gathered = [piece for text in texts(arguments.data) for piece in pieces(text) if piece]
    for written in arguments.written:
        gathered += [json.loads(line)["text"] for line in written.read_text(encoding="utf-8").splitlines()]
    random.Random(_SEED).shuffle(gathered)
    lines = (json.dumps({"text": piece}, ensure_ascii=False) for piece in gathered)
    write_text(arguments.output, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
