"""Write docs/demo-dictionaries.md: what the packaged dictionaries measure, and features a person would call clear."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from onesense.cli.features import marked
from onesense.features.contexts import Contexts
from onesense.features.extract import ExtractSettings, extract
from onesense.features.lens import LensStatistics
from onesense.model.language_model import LanguageModel
from onesense.model.load import load_model
from onesense.sae.evaluate import cross_entropy
from onesense.sae.load import demo_ids, load_dictionary
from onesense.store.atomic import write_text
from onesense.store.run_folder import RunFolder
from onesense.text.corpus import read_documents

_CONTEXTS = 4
_HEAD = """# The demo dictionaries

Three BatchTopK dictionaries of 4,608 features for the residual stream of the embedded demo model
(SmolLM2-135M-Instruct, width 576, 30 layers), stored in float16 and read by threshold (jumprelu).

Made by `make demo-dictionaries DATA=<mirror>`: {visits} of the activations of about {tokens} tokens of
public-domain novels and speeches, film reviews, GAP snippets and Wikipedia articles, 128 tokens at a time; BOS and
outliers (norm over five times the median) left out. This page: `python -m recipes.describe --output
docs/demo-dictionaries.md --features docs/demo-features.json`.

| dictionary | L0 | FVU | CE recovered | CE clean → spliced (zeroed), nats | FVU, sample | never fire, sample |
|---|---|---|---|---|---|---|
"""


def main() -> None:
    """``python -m recipes.describe --features CHOSEN.json --output PAGE.md``."""
    parser = argparse.ArgumentParser(prog="python -m recipes.describe", description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("build/describe"))
    parser.add_argument("--features", type=Path, required=True, help="{sae_id: {feature: what it is}}")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--visits", default="4 million visits (3 million at block 9)")
    parser.add_argument("--tokens", default="2.3 million")
    arguments = parser.parse_args()
    chosen = json.loads(arguments.features.read_text())
    model = load_model("demo")
    rows, sections = [], []
    for sae_id in demo_ids():
        rows.append(table_row(model, sae_id, arguments.runs / sae_id))
        sections.append(
            section(model, sae_id, chosen.get(sae_id, {}), RunFolder.open(arguments.runs / sae_id))
        )
    head = _HEAD.format(visits=arguments.visits, tokens=arguments.tokens)
    notes = (
        "\nL0 and FVU are those on held-out activations of the training text. CE is measured on "
        "20,000 tokens of the sample text, which nothing was trained on.\n"
    )
    write_text(arguments.output, head + "\n".join(rows) + "\n" + notes + "\n".join(sections))


def table_row(model: LanguageModel, sae_id: str, folder: Path) -> str:
    """Measure one dictionary, and leave its run in ``folder``."""
    dictionary = load_dictionary(release="demo", sae_id=sae_id)
    extraction = extract(model, dictionary, folder, ExtractSettings(force=True))
    losses = cross_entropy(model, dictionary, read_documents())
    check, contexts = extraction.check, extraction.contexts
    if check is None or contexts is None:
        raise SystemExit("the run has no contexts")
    silent = float(np.mean(contexts.count == 0))
    origin = dictionary.origin
    return (
        f"| `{sae_id}` | {origin.expected_l0 or 0:.1f} | {origin.expected_fvu or 0:.3f} | {losses.recovered:.4f} "
        f"| {losses.clean:.3f} → {losses.spliced:.3f} ({losses.ablated:.2f}) | {check.fvu:.3f} | {silent:.1%} |"
    )


def section(model: LanguageModel, sae_id: str, chosen: dict[str, str], run: RunFolder) -> str:
    """Chosen features with their strongest contexts."""
    lens, contexts = LensStatistics.from_tensors(run.read_result("lens")), Contexts.open(run)
    lines = [f"\n## `{sae_id}`\n", "The token of the peak stands between » and «.\n"]
    for number, meaning in chosen.items():
        feature = int(number)
        promoted = ", ".join(
            f"`{token}`" for token in model.token_strings(lens.top_ids[feature][:6].tolist())
        )
        lines.append(
            f"**{feature}: {meaning}** (fires on {contexts.density[feature]:.2%}; promotes {promoted})\n"
        )
        lines.append("```text")
        lines += [
            f"{context.activation:6.2f}  {marked(model, context)[-150:]}"
            for context in contexts.top(feature)[:_CONTEXTS]
        ]
        lines.append("```\n")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
