"""``onesense sae``: train a dictionary, check one, list what there is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onesense.cli import options

sae_app = typer.Typer(help="Dictionaries (sparse autoencoders): train, check, list.", no_args_is_help=True)


@sae_app.command("train")
def train_command(
    model: options.Model = None,
    hook_point: Annotated[
        list[str] | None,
        typer.Option(
            "--hook-point", help="Such as blocks.8.hook_resid_post; may be repeated: one pass feeds all."
        ),
    ] = None,
    architecture: Annotated[
        str, typer.Option("--architecture", help="batchtopk, topk, jumprelu or matryoshka.")
    ] = "batchtopk",
    d_sae: Annotated[
        int | None, typer.Option("--d-sae", help="Features; 8 times the width by default.")
    ] = None,
    k: Annotated[int, typer.Option("--k", help="Mean number of active features per token.")] = 32,
    l0_coefficient: Annotated[
        float, typer.Option("--l0-coefficient", help="Weight of jumprelu's penalty.")
    ] = 1.0,
    text: options.Text = None,
    text_field: options.TextField = "text",
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", help="Tokens of text to use.")] = None,
    visits: Annotated[
        int, typer.Option("--visits", help="Activations seen in all, repeats counted.")
    ] = 6_000_000,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Activations of one step.")] = 2048,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="Adam's.")] = 5e-4,
    context_size: Annotated[int, typer.Option("--context-size", help="Tokens the model sees at once.")] = 128,
    storage_dtype: Annotated[str, typer.Option("--storage-dtype", help="float32 or float16.")] = "float32",
    run_folder: options.RunFolderOption = None,
    seed: options.Seed = None,
    dtype: options.Dtype = None,
    device: options.Device = None,
    device_map: options.DeviceMap = None,
    quiet: options.Quiet = False,
) -> None:
    """Train dictionaries on the model's own activations; the same command resumes."""
    from onesense.cli.console import Bars, note
    from onesense.config import load_settings
    from onesense.errors import ConfigurationError

    settings = load_settings(
        run_folder=run_folder, seed=seed, dtype=dtype, device=device, device_map=device_map
    )
    if storage_dtype not in ("float32", "float16"):
        raise ConfigurationError(f"`{storage_dtype}` cannot be stored.", hint="Choose float32 or float16.")
    if not hook_point:
        raise ConfigurationError("Train where?", hint="Give --hook-point, such as blocks.8.hook_resid_post.")

    from onesense.model.hook_points import HookPoint
    from onesense.model.load import load_model
    from onesense.sae.activations import HarvestSettings
    from onesense.sae.train import TrainSettings
    from onesense.sae.training_run import TrainingPlan, run_training
    from onesense.store.progress import RecordedStages
    from onesense.text.corpus import read_documents

    loaded = load_model(
        model or settings.model_name or "demo",
        dtype=settings.dtype,
        device=settings.device,
        device_map=settings.device_map,
    )
    points = tuple(HookPoint.parse(name) for name in hook_point)
    plan = TrainingPlan(
        points,
        architecture,
        d_sae or 8 * loaded.resolve(points[0]).width,
        k,
        HarvestSettings(context_size=context_size, max_tokens=max_tokens),
        TrainSettings(
            visits=visits,
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=settings.seed,
            autocast=str(loaded.dtype) == "torch.bfloat16",
        ),
        storage_dtype=storage_dtype,  # type: ignore[arg-type]
        l0_coefficient=l0_coefficient,
    )
    folder = settings.run_folder or Path("onesense-runs") / f"sae-{architecture}-{loaded.family}"
    finished = run_training(
        loaded,
        lambda: read_documents(text, field=text_field),
        folder,
        plan,
        text=text,
        stages=RecordedStages(Bars(quiet=quiet), folder),
    )
    for one in finished:
        typer.echo(
            f"{one.point}: L0 {one.l0:.1f}, FVU {one.fvu:.3f}, CE recovered {one.cross_entropy.recovered:.4f} "
            f"({one.cross_entropy.clean:.3f} -> {one.cross_entropy.spliced:.3f} nats), dead {one.dead_share:.1%}"
        )
        note(f"Dictionary: {one.folder}; curves: {one.curves}")


@sae_app.command("check")
def check_command(
    model: options.Model = None,
    model_name: options.ModelName = None,
    sae_release: options.SaeRelease = None,
    sae_id: options.SaeId = None,
    sae_path: options.SaePath = None,
    text: options.Text = None,
    text_field: options.TextField = "text",
    device: options.Device = None,
    device_map: options.DeviceMap = None,
    force: options.Force = False,
) -> None:
    """Check that a dictionary reconstructs what it should at its hook point."""
    from onesense.cli.choice import choose
    from onesense.cli.console import warn
    from onesense.config import load_settings

    settings = load_settings(
        model_name=model_name, sae_release=sae_release, sae_id=sae_id, device=device, device_map=device_map
    )
    choice = choose(settings, positional_model=model, sae_path=sae_path)

    from onesense.model.load import load_model
    from onesense.sae.check import self_check
    from onesense.text.corpus import read_documents

    dictionary = choice.load()
    loaded = load_model(choice.model, device=settings.device, device_map=settings.device_map)
    documents = read_documents(text, field=text_field) if text else None
    check = self_check(loaded, dictionary, documents, force=force)
    typer.echo(
        f"{dictionary.origin.label} at {dictionary.hook_point}: L0 {check.l0:.1f}, FVU {check.fvu:.3f}, "
        f"{check.dead_share:.1%} silent on {check.tokens:,} tokens: {'fits' if check.passed else 'does not fit'}"
    )
    for finding in check.findings:
        warn(finding)


@sae_app.command("list")
def list_command(
    release: Annotated[str | None, typer.Argument(help="A release; without it, all of them.")] = None,
) -> None:
    """List releases of the SAELens registry, or the dictionaries of one."""
    from onesense.sae.load import demo_ids
    from onesense.sae.registry import releases, sae_ids

    if release is None:
        typer.echo("demo")
        names = releases()
    else:
        names = demo_ids() if release == "demo" else sae_ids(release)
    for name in names:
        typer.echo(name)
