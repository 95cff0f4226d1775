"""From the flags of ``onesense interpret`` to what is explained, and what is shown of it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onesense.cli.console import Bars, note, warn
from onesense.cli.interpret_tables import show_explanations, show_scores
from onesense.errors import BudgetReachedError, ConfigurationError, EndpointError
from onesense.store.run_folder import folder_name

if TYPE_CHECKING:
    from onesense.config import Settings
    from onesense.engine.executor import Executor
    from onesense.explain.endpoint.settings import EndpointSettings
    from onesense.explain.interpretation import Interpretation, InterpretSettings
    from onesense.explain.scores.score import ScoreKind
    from onesense.explain.source import RunSource, TableSource
    from onesense.store.catalog import Catalog

_EXPLAINERS = ("auto", "llm", "lexical")
_LONGEST_RANGE = 10_000_000


def chosen_endpoint(
    explainer: str, settings: Settings, further: Mapping[str, Any]
) -> EndpointSettings | None:
    """The language model that is asked; None for word sets alone.

    Args:
        explainer: ``auto``, ``llm`` or ``lexical``, as typed.
        settings: Key, address, model.
        further: Further settings of the endpoint.

    Raises:
        ConfigurationError: There is no such explainer, or no way to one.
    """
    if explainer not in _EXPLAINERS:
        raise ConfigurationError(
            f"There is no explainer {explainer!r}.", hint=f"Choose from: {', '.join(_EXPLAINERS)}."
        )
    reachable = settings.openai_api_key is not None or settings.openai_base_url is not None
    if explainer == "llm" and not reachable:
        raise ConfigurationError(
            "A language model explains only with a key or an address.",
            hint="Put OPENAI_API_KEY into .env, or give --base-url of a server of your own.",
        )
    if explainer == "lexical" or not reachable:
        return None
    from onesense.explain.asking import endpoint_settings

    return endpoint_settings(
        settings.openai_base_url, settings.explainer_model, settings.openai_api_key, **further
    )


def chosen_source(settings: Settings, word_sets: tuple[Path, ...]) -> RunSource | TableSource:
    """The run, or the table, that is explained."""
    from onesense.explain.source import open_source

    table = settings.top_activations_file
    return open_source(
        settings.run_folder,
        table,
        word_sets=word_sets,
        seed=settings.seed,
        device=settings.device,
        device_map=settings.device_map,
        default=Path("onesense-runs") / folder_name("interpret", table.stem if table else ""),
    )


def chosen_features(
    typed: str | None, listed: Path | None, source: RunSource | TableSource
) -> list[int] | None:
    """Features as typed, or those that a table lists of a run that has more; None for all."""
    from onesense.explain.source import RunSource, listed_features

    if typed is None:
        return listed_features(listed) if listed is not None and isinstance(source, RunSource) else None
    found: list[int] = []
    for part in typed.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise ConfigurationError(
                f"{part.strip()!r} names no features.", hint="Give numbers and ranges, such as 0-99,460."
            )
        if dash and int(last) - int(first) > _LONGEST_RANGE:
            raise ConfigurationError(f"{part.strip()!r} is too long.", hint="Leave out --features for all.")
        found.extend(range(int(first), int(last or first) + 1))
    return found


def chosen_scores(typed: str | None) -> tuple[ScoreKind, ...]:
    """Scores as typed."""
    from onesense.explain.scores.score import SCORE_KINDS

    names = [name.strip() for name in (typed or "").split(",") if name.strip()]
    unknown = [name for name in names if name not in SCORE_KINDS]
    if unknown or (typed is not None and not names):
        raise ConfigurationError(
            f"There is no score {unknown[0] if unknown else typed!r}.",
            hint=f"Choose from: {', '.join(SCORE_KINDS)}, with commas.",
        )
    return tuple(dict.fromkeys(names))  # type: ignore[arg-type]


def chosen_executor(
    ray: str | None, storage: str | None, source: RunSource | TableSource, scores: Sequence[ScoreKind]
) -> Executor:
    """Where texts are read and word sets judge.

    Args:
        ray: Address of a cluster; None for this process.
        storage: For large results.
        source: What is explained.
        scores: Which scores.

    Raises:
        ConfigurationError: See ``open_executor``.
    """
    from onesense.engine.choose import open_executor

    if ray is None or not scores:
        if ray is not None:
            note("No cluster is asked: it shares the work of --score, and nothing is scored.")
        return open_executor(None)
    from onesense.explain.source import with_contexts

    return open_executor(ray, storage=storage, device=with_contexts(source).model.device.type)


def interpret_and_show(
    source: RunSource | TableSource,
    settings: InterpretSettings,
    output: Path | None,
    executor: Executor,
    *,
    confirmed: bool,
    quiet: bool,
) -> None:
    """Explain, score, show and write; what was answered until an endpoint or a budget gave out, too."""
    from onesense.explain.interpretation import Interpretation
    from onesense.store.progress import RecordedStages

    bars = Bars(quiet=quiet, live=None if settings.endpoint is None else lambda: made.spent)
    stages = RecordedStages(bars, source.run.path)
    made = Interpretation(
        source, settings, stages=stages, executor=executor, tell=note, agree=lambda: confirmed or _agreed()
    )
    with made.opened() as catalog:
        try:
            made.run(catalog)
        except (BudgetReachedError, EndpointError):
            _finish(made, catalog, output)
            raise
        _finish(made, catalog, output)


def _agreed() -> bool:
    """Ask the user, where there is one."""
    import typer

    return not sys.stdin.isatty() or typer.confirm("Go on?", err=True)


def _finish(made: Interpretation, catalog: Catalog, output: Path | None) -> None:
    from onesense.explain.interpreted import write_interpreted

    for problem in made.problems:
        warn(problem)
    for one in made.scores:
        show_scores(one.summaries, f"what {one.explained_by} say, judged by {one.judged_by}")
    show_explanations(catalog, made.features)
    note(f"Run folder: {made.run_folder.path}")
    if output is not None:
        write_interpreted(output, catalog, made.features)
        note(f"Results saved to '{output}'")
