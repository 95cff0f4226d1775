"""A debias run and recipes beside the demo's run, for tests of tuning by hand."""

from __future__ import annotations

import shutil
from pathlib import Path

from onesense.steer.edit import Edit, Operation
from onesense.steer.recipe import DictionaryReference, ModelReference, Part, Recipe, write_recipe
from onesense.store.candidates import CandidateRow
from onesense.store.catalog import Catalog
from onesense.store.provenance import provenance
from onesense.store.run_folder import RunFolder

HOOK_POINT = "blocks.15.hook_resid_post"
SCRIPT = "<script>document.title='owned'</script>"
STRONGEST, EDITED, FIXED, STACKED = 999, 1005, 1212, 1370
CANDIDATES = (
    CandidateRow(HOOK_POINT, STRONGEST, bias=0.17, toward_women=0.5, fact=0.5, kl=0.005, promoted=[" her", SCRIPT]),
    CandidateRow(HOOK_POINT, EDITED, bias=0.05, toward_women=-0.4, fact=-0.1, kl=0.002, promoted=[" who"]),
    CandidateRow("blocks.3.hook_resid_post", 7, bias=0.9),
)  # fmt: skip


def make_tuned_runs(demo_run: Path, folder: Path) -> Path:
    """The demo's run, a debias run of the same dictionary with a recipe, and one that somebody saved."""
    shutil.copytree(demo_run, folder)
    inputs = RunFolder.open(folder / "demo").provenance["inputs"]
    fingerprint = str(inputs["dictionary"]["fingerprint"])
    run = RunFolder.create_or_resume(
        folder / "bias",
        command="debias",
        configuration={},
        provenance=provenance(dictionary={HOOK_POINT: fingerprint}, seeds=0),
    )
    with Catalog(run.catalog_path) as catalog:
        catalog.replace_candidates(CANDIDATES)
    edits = (
        Edit(feature=EDITED, operation=Operation.SCALE, value=0.25),
        Edit(feature=FIXED, operation=Operation.CLAMP, value=1.0),
        Edit(feature=STACKED, operation=Operation.SCALE, value=0.5),
        Edit(feature=STACKED, operation=Operation.ADD, value=-0.125),
    )
    reference = DictionaryReference(release="demo", sae_id=HOOK_POINT, fingerprint=fingerprint)
    part = Part(hook_point=HOOK_POINT, dictionary=reference, edits=edits, stack=True)
    model = ModelReference(name="demo", fingerprint=str(inputs["model"]["fingerprint"]))
    made = Recipe(model=model, parts=(part,), note="debias")
    for path, recipe in (
        (folder / "bias" / "recipes" / "kl-0.01.json", made),
        (folder / "bias" / "recipe.json", made),
        (folder / "recipes" / "other model.json", made.model_copy(update={"model": _other(model)})),
    ):
        path.parent.mkdir(exist_ok=True)
        write_recipe(recipe, path)
    (folder / "recipes" / "damaged.json").write_text("{")
    return folder


def _other(model: ModelReference) -> ModelReference:
    """The same name with other weights."""
    return model.model_copy(update={"fingerprint": "0" * 64})
