"""The README of an export, as a model card."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from onesense.debias.export.control_vector import FILE_NAME
from onesense.debias.export.kinds import ExportKind
from onesense.debias.export.manifest import AuditedMetric, Interval, Manifest
from onesense.debias.export.steering_spec import FILE_NAME as STEERING_FILE
from onesense.model.demo_model import DEMO_DESCRIPTION, DEMO_NAME
from onesense.steer.recipe import Recipe

_NOTHING = "–"
# What Markdown, or the HTML that it may hold, would read as more than text.
_MARKUP = {character: f"\\{character}" for character in "\\`*_[]|#"} | {
    "<": "&lt;",
    ">": "&gt;",
    "&": "&amp;",
}


@dataclass(frozen=True, slots=True)
class _Line:
    """A metric of the table, as text."""

    name: str
    unit: str
    before: str
    recipe: str
    exported: str
    verdict: str


def model_card(manifest: Manifest, recipe: Recipe) -> str:
    """The card as Markdown. Names and notes are shown as text, whatever is in them."""
    base = manifest.base.name
    return _template().render(
        manifest=manifest,
        kind=manifest.kind.value,
        kinds=ExportKind,
        base=DEMO_DESCRIPTION if base == DEMO_NAME else base,
        base_argument=base,
        on_the_hub=base != DEMO_NAME and base.count("/") == 1 and not base.startswith((".", "~", "/")),
        note=recipe.note,
        edits=sum(len(part.edits) for part in recipe.parts),
        features=len(
            {(part.dictionary.fingerprint, edit.feature) for part in recipe.parts for edit in part.edits}
        ),
        parts=recipe.parts,
        operations=sorted({edit.operation.value for part in recipe.parts for edit in part.edits}),
        lines=_lines(manifest),
        control_vector=FILE_NAME,
        steering=STEERING_FILE,
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("onesense.debias.export"),
        autoescape=False,  # Markdown: `_shown` escapes instead
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_shown,
    )
    environment.filters["literal"] = _Literal
    return environment.get_template("model_card.md.j2")


class _Literal(str):
    """Text for a block of code, where Markdown reads no markup."""


def _shown(value: object) -> object:
    if not isinstance(value, str):
        return value
    clean = "".join(c if c.isprintable() else "�" for c in " ".join(value.splitlines()))
    if isinstance(value, _Literal):
        return clean.replace("`", "'")
    return "".join(_MARKUP.get(character, character) for character in clean)


def _lines(manifest: Manifest) -> list[_Line]:
    """The headline metrics of both audits, by benchmark and metric."""
    of_recipe = {one.key: one for one in manifest.recipe_audit.metrics} if manifest.recipe_audit else {}
    of_export = {one.key: one for one in manifest.audit.metrics} if manifest.audit else {}
    lines = []
    for key in dict.fromkeys([*of_recipe, *of_export]):
        recipe, exported = of_recipe.get(key), of_export.get(key)
        metric = recipe or exported
        if metric is None or not metric.headline:
            continue
        lines.append(
            _Line(
                name=f"{metric.benchmark_title} · {metric.title}",
                unit=metric.unit,
                before=_cell(metric, None if recipe is None else recipe.before),
                recipe=_cell(metric, None if recipe is None else recipe.found),
                exported=_cell(metric, None if exported is None else exported.found),
                verdict=_NOTHING if recipe is None else recipe.verdict,
            )
        )
    return lines


def _cell(metric: AuditedMetric, interval: Interval | None) -> str:
    if interval is None or interval.value is None:
        return _NOTHING
    value = f"{interval.value:.{metric.decimals}f}"
    if interval.low is None or interval.high is None:
        return value
    return f"{value} ({interval.low:.{metric.decimals}f} to {interval.high:.{metric.decimals}f})"
