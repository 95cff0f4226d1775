"""What ``onesense interpret`` shows at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onesense.cli.console import cell, results, warn

if TYPE_CHECKING:
    from onesense.explain.scores.summary import ScoreSummary
    from onesense.store.catalog import Catalog

_SHOWN = 12
_LONGEST_DETAIL = 200
_MENDED = {
    "refused": "Another --model may answer.",
    "truncated": "Give more with --max-tokens; models that reason need it.",
    "unparseable": "Another --model may keep to the form that is asked for.",
    "http_error": "The same command asks for these again.",
}
"""What helps where a language model's answer could not be used."""


def show_explanations(catalog: Catalog, features: Sequence[int]) -> None:
    """The first explanations, and how often a language model's could not be used, and why."""
    from rich.table import Table

    from onesense.store.explanations import best_explanations, read_explanations

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("feature", justify="right", no_wrap=True)
    table.add_column("by", no_wrap=True)
    table.add_column("explanation", no_wrap=True, overflow="ellipsis")
    shown = features[:_SHOWN]
    best = best_explanations(catalog, shown)
    for feature in shown:
        if feature in best:
            row = best[feature]
            table.add_row(str(feature), cell(Path(row.model or row.method).name, 24), cell(row.text, 110))
        else:
            table.add_row(str(feature), "", "(none)")
    if len(features) > _SHOWN:
        table.add_row("…", "…", "…")
    results.print(table)
    chosen = set(features)
    asked = [row for row in read_explanations(catalog, method="llm") if row.feature in chosen]
    counts = Counter(row.status for row in asked)
    if counts:
        results.print(
            "By a language model: "
            + ", ".join(f"{count:,} {status}" for status, count in counts.most_common())
        )
    for status in (status for status in counts if status != "ok"):
        [(detail, _)] = Counter(row.detail for row in asked if row.status == status).most_common(1)
        why = f", most often: {detail[:_LONGEST_DETAIL].rstrip('.')}" if detail else ""
        warn(f"{counts[status]:,} {status}{why}. {_MENDED[status]}")


def show_scores(summaries: Sequence[ScoreSummary], title: str) -> None:
    """Scores over features, each beside that of another feature's explanations."""
    from rich.table import Table

    table = Table(
        box=None, header_style="bold", pad_edge=False, title=f"Scores of {title}", title_justify="left"
    )
    for name in ("score", "features", "accuracy", "of another feature's words", "gain", "AUROC", "missing"):
        table.add_column(name, no_wrap=True, justify="left" if name == "score" else "right")
    for one in summaries:
        shuffled = f"{one.chance:.2f} (chance)" if one.shuffled is None else _interval(one.shuffled)
        table.add_row(
            one.kind,
            f"{one.features:,}",
            _interval(one.accuracy),
            shuffled,
            _interval(one.gain),
            _interval(one.auroc),
            f"{one.missing:,} of {one.asked:,}",
        )
    results.print(table)
    for one in summaries:
        for reason, count in list(one.reasons.items())[:3]:
            warn(f"No {one.kind} score for {count:,} features: {reason}")


def _interval(value: Any) -> str:
    return "" if value is None else f"{value.value:.2f} [{value.low:.2f}, {value.high:.2f}]"
