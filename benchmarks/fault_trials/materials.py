"""A model of three layers, dictionaries for it, a text and a recipe: what the commands of the trials work on."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

_TESTS = Path(__file__).parents[2] / "tests"


@dataclass(frozen=True)
class Materials:
    """Where things lie.

    Attributes:
        model: Folder of the model.
        dictionary: Folder of a dictionary that fires often.
        sparse: Folder of one that fires rarely, whose senses can be measured.
        text: Sentences, as JSON lines.
        recipe: One direction at every position.
    """

    model: Path
    dictionary: Path
    sparse: Path
    text: Path
    recipe: Path


def make_materials(folder: Path) -> Materials:
    """Write everything to `folder`; call it in a child, as it computes."""
    with_tests_modules()
    from command_line import write_old_saelens
    from onesense.model.language_model import LanguageModel
    from onesense.model.load import load_model, save_model
    from onesense.sae.load import load_dictionary
    from onesense.sae.write import write_saelens
    from onesense.steer.edit import Edit, Operation
    from onesense.steer.intervention import EditGroup
    from onesense.steer.recipe import make_recipe, write_recipe
    from senses.planted_contexts import documents, sparse_dictionary
    from tiny_models import make_byte_tokenizer, tiny_hf

    made = materials_in(folder)
    save_model(LanguageModel.from_hf(tiny_hf("gpt2"), make_byte_tokenizer(), "tiny"), made.model)
    model = load_model(str(made.model), device="cpu", dtype="float32")
    write_old_saelens(made.dictionary)
    write_saelens(sparse_dictionary(model), made.sparse)
    made.text.write_text("".join(json.dumps({"text": one.text}) + "\n" for one in documents()))
    edit = Edit(feature=3, operation=Operation.DIRECTION_ADD, value=3.0)
    write_recipe(make_recipe(model, [EditGroup(load_dictionary(path=made.dictionary), [edit])]), made.recipe)
    return made


def materials_in(folder: Path) -> Materials:
    """The paths, whether anything is there or not."""
    return Materials(
        folder / "model",
        folder / "dictionary",
        folder / "sparse",
        folder / "text.jsonl",
        folder / "recipe.json",
    )


def with_tests_modules() -> None:
    """Let the tests' tiny models be imported."""
    if str(_TESTS) not in sys.path:
        sys.path.append(str(_TESTS))
