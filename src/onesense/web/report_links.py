"""Where reports lead: recipes and features by what they are made of, if the workspace has them."""

from __future__ import annotations

from collections.abc import Callable

from onesense.errors import OnesenseError
from onesense.report.debias_html import DebiasLinks
from onesense.web.workspace import KnownRecipe, KnownRun, Workspace


def recipe_of_hash(workspace: Workspace, content_hash: str) -> KnownRecipe | None:
    """The first recipe of this content, if there is one."""
    for known in workspace.recipes():
        try:
            if content_hash and known.read().content_hash == content_hash:
                return known
        except OnesenseError:
            continue
    return None


def tune_address(recipe: str) -> str:
    """Where a recipe is tuned by hand.

    Args:
        recipe: Its id.
    """
    return f"/tune?recipe={recipe}"


def debias_links(workspace: Workspace, known: KnownRun) -> DebiasLinks:
    """Recipes of a debias run lead to where they are tuned, features to their page in a run of extract."""
    recipes = {one.path.resolve(): one.id for one in workspace.recipes() if one.run == known.id}

    def recipe(file: str) -> str | None:
        try:
            found = recipes.get((known.path / file).resolve())
        except (OSError, ValueError):
            return None
        return None if found is None else tune_address(found)

    return DebiasLinks(recipe=recipe, feature=_feature_link(workspace, known))


def feature_address(workspace: Workspace, fingerprint: str, feature: int) -> str | None:
    """The page of a feature, if a run of extract of its dictionary is there."""
    run = _extract_runs(workspace).get(fingerprint)
    return None if run is None else f"/runs/{run}/features/{feature}"


def _feature_link(workspace: Workspace, known: KnownRun) -> Callable[[str, int], str | None]:
    runs = _extract_runs(workspace)
    inputs = {} if known.run is None else known.run.provenance.get("inputs", {})
    dictionaries = inputs.get("dictionary", {}) if isinstance(inputs, dict) else {}

    def feature(hook_point: str, number: int) -> str | None:
        fingerprint = dictionaries.get(hook_point) if isinstance(dictionaries, dict) else None
        run = runs.get(fingerprint) if isinstance(fingerprint, str) else None
        return None if run is None else f"/runs/{run}/features/{number}"

    return feature


def _extract_runs(workspace: Workspace) -> dict[str, str]:
    return {one.fingerprint: one.extract[0] for one in workspace.dictionaries() if one.extract}
