"""``onesense interpret``."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from onesense.cli import options

_WHAT = "What is explained"
_WHO = "Who explains"
_SCORES = "Scores"
_MONEY = "Money"


def interpret_command(
    input_file: Annotated[
        Path | None,
        typer.Option(
            "--input-file",
            help="JSON that `onesense extract` wrote; tokens are all that is known of its features. "
            "\\[env: TOP_ACTIVATIONS_FILE]",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    run_folder: Annotated[
        Path | None,
        typer.Option(
            "--run-folder",
            help="What `onesense extract` wrote: contexts too. With only a JSON, where the new run goes. "
            "\\[env: ONESENSE_RUN_FOLDER]",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option("--features", help="Only these, such as 0-99,460.", rich_help_panel=_WHAT),
    ] = None,
    most: Annotated[
        int | None, typer.Option("--most", help="Features at most.", min=1, rich_help_panel=_WHAT)
    ] = None,
    senses: Annotated[
        Path | None,
        typer.Option(
            "--senses",
            help="Run of `onesense senses measure`: each sense of a feature with several is explained too.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    output_file: Annotated[
        Path | None,
        typer.Option(
            "--output-file",
            help="Where explanations go as JSON. \\[env: INTERPRETED_FEATURES_FILE]",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    explainer: Annotated[
        str,
        typer.Option(
            "--explainer",
            help="lexical: word sets, no key, instant; llm: a language model, and word sets beside it; auto: "
            "llm where there is a key or an address.",
            rich_help_panel=_WHO,
        ),
    ] = "auto",
    openai_api_key: Annotated[
        str | None,
        typer.Option(
            "--openai-api-key", help="Better kept in .env. \\[env: OPENAI_API_KEY]", rich_help_panel=_WHO
        ),
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(
            "--base-url",
            help="Any OpenAI-compatible address, such as http://localhost:11434/v1. \\[env: OPENAI_BASE_URL]",
            rich_help_panel=_WHO,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Language model there: gpt-4o with OpenAI, else the one that the server has. "
            "\\[env: ONESENSE_EXPLAINER_MODEL]",
            rich_help_panel=_WHO,
        ),
    ] = None,
    word_set: Annotated[
        list[Path] | None,
        typer.Option(
            "--word-set",
            help="A file of your own, a word a line; its name is the set's. May be repeated.",
            rich_help_panel=_WHO,
        ),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-tokens",
            help="Tokens of an answer at most; models that reason need more than usual.",
            min=1,
            rich_help_panel=_WHO,
        ),
    ] = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", help="Questions at once.", min=1, max=256, rich_help_panel=_WHO)
    ] = 8,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            help="Seconds for one attempt; 120, or 600 with a server on this machine, where questions may wait "
            "for one another.",
            min=1,
            rich_help_panel=_WHO,
        ),
    ] = None,
    allow_insecure: Annotated[
        bool,
        typer.Option(
            "--allow-insecure", help="Send a key over plain http to another machine.", rich_help_panel=_WHO
        ),
    ] = False,
    score: Annotated[
        str | None,
        typer.Option("--score", help="detection, fuzz, intruder, with commas.", rich_help_panel=_SCORES),
    ] = None,
    judge_lexical: Annotated[
        bool,
        typer.Option(
            "--judge-lexical",
            help="Let the language model judge the word sets' explanations too.",
            rich_help_panel=_SCORES,
        ),
    ] = False,
    text: options.Text = None,
    budget: Annotated[
        float | None, typer.Option("--budget", help="Dollars at most.", min=0, rich_help_panel=_MONEY)
    ] = None,
    price_input: Annotated[
        float | None,
        typer.Option("--price-input", help="Dollars for a million tokens in.", rich_help_panel=_MONEY),
    ] = None,
    price_output: Annotated[
        float | None,
        typer.Option("--price-output", help="Dollars for a million tokens out.", rich_help_panel=_MONEY),
    ] = None,
    batch: Annotated[
        bool,
        typer.Option(
            "--batch",
            help="Through the provider's batch queue: half the price, up to 24 hours.",
            rich_help_panel=_MONEY,
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what it would cost, and ask nothing.", rich_help_panel=_MONEY),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask before money is spent.", rich_help_panel=_MONEY)
    ] = False,
    seed: options.Seed = None,
    device: options.Device = None,
    device_map: options.DeviceMap = None,
    ray: options.Ray = None,
    ray_storage: options.RayStorage = None,
    quiet: options.Quiet = False,
) -> None:
    """Say in words what each feature is, and score the saying."""
    from onesense.cli.interpreting import (
        chosen_endpoint,
        chosen_executor,
        chosen_features,
        chosen_scores,
        chosen_source,
        interpret_and_show,
    )
    from onesense.config import load_settings
    from onesense.explain.asking import Prices
    from onesense.explain.interpretation import InterpretSettings

    settings = load_settings(
        top_activations_file=input_file,
        interpreted_features_file=output_file,
        openai_api_key=openai_api_key,
        openai_base_url=base_url,
        explainer_model=model,
        run_folder=run_folder,
        seed=seed,
        device=device,
        device_map=device_map,
    )
    scores = chosen_scores(score)
    further = {"max_tokens": max_tokens, "concurrency": concurrency, "allow_insecure": allow_insecure}
    endpoint = chosen_endpoint(explainer, settings, {**further, "timeout": timeout})
    source = chosen_source(settings, tuple(word_set or ()))
    wanted = InterpretSettings(
        features=chosen_features(features, input_file, source),
        most=most,
        endpoint=endpoint,
        prices=Prices(budget, price_input, price_output, batch),
        senses=senses,
        scores=scores,
        judge_lexical=judge_lexical,
        text=text,
        dry_run=dry_run,
    )
    with closing(chosen_executor(ray, ray_storage, source, () if dry_run else scores)) as executor:
        interpret_and_show(
            source, wanted, settings.interpreted_features_file, executor, confirmed=yes, quiet=quiet
        )
