"""The page of the model card template, made from the template that `onesense export` fills."""

from __future__ import annotations

import argparse
from pathlib import Path

ROOT = Path(__file__).parents[1]
_TEMPLATE = ROOT / "src" / "onesense" / "debias" / "export" / "templates" / "model_card.md.j2"
_BEGINNING = """# Model card template

Every folder that `onesense export` writes has this as its `README.md`. Whoever publishes a model that was changed
another way can fill it by hand; what matters is that no part is left out:

- **what was changed**: how many edits to how many features, where, and of which dictionary;
- **how close it is** to the recipe, in nats per token, beside the unedited model;
- **what was measured**, each value with its interval and the value before, and what got worse with it;
- **what it does not show**: English, two genders, stereotypes of the United States, disputed sets;
- **how to load it**, how to check it, and the licence of the base model.

In braces stands what export fills in from `onesense.json` and `recipe.json`; names and notes are escaped, so that a
card shows them as text, whatever they hold. This page is made by `python -m recipes.model_card_page`.

"""


def page() -> str:
    """The page as Markdown."""
    return f"{_BEGINNING}````jinja\n{_TEMPLATE.read_text(encoding='utf-8')}````\n"


def main() -> None:
    """Write the page."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    (ROOT / "docs" / "model-card-template.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
