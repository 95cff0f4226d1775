"""Flags that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_DICTIONARY = "Model and dictionary"
_RUN = "Run"

Model = Annotated[
    str | None,
    typer.Argument(help="demo, hub name, TransformerLens name, folder, or GGUF file.", show_default="demo"),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model-name", help="The same as the argument. \\[env: MODEL_NAME]", rich_help_panel=_DICTIONARY
    ),
]
SaeRelease = Annotated[
    str | None,
    typer.Option(
        "--sae-release", help="SAELens release, or demo. \\[env: SAE_RELEASE]", rich_help_panel=_DICTIONARY
    ),
]
SaeId = Annotated[
    str | None,
    typer.Option("--sae-id", help="Id within the release. \\[env: SAE_ID]", rich_help_panel=_DICTIONARY),
]
SaePath = Annotated[
    Path | None,
    typer.Option(
        "--sae-path", help="Folder of a dictionary, instead of a release.", rich_help_panel=_DICTIONARY
    ),
]
SaeIds = Annotated[
    list[str] | None,
    typer.Option(
        "--sae-id",
        help="Id within the release; may be repeated: several depths do better than one. \\[env: SAE_ID]",
        rich_help_panel=_DICTIONARY,
    ),
]
SaePaths = Annotated[
    list[Path] | None,
    typer.Option(
        "--sae-path",
        help="Folder of a dictionary, instead of a release. May be repeated.",
        rich_help_panel=_DICTIONARY,
    ),
]
Layer = Annotated[
    int | None, typer.Option("--layer", help="Layer. \\[env: LAYER]", rich_help_panel=_DICTIONARY)
]
RunFolderOption = Annotated[
    Path | None,
    typer.Option(
        "--run-folder", help="Folder of results. \\[env: ONESENSE_RUN_FOLDER]", rich_help_panel=_RUN
    ),
]
Seed = Annotated[
    int | None, typer.Option("--seed", help="Root seed. \\[env: ONESENSE_SEED]", rich_help_panel=_RUN)
]
Dtype = Annotated[
    str | None,
    typer.Option(
        "--dtype", help="auto, float32, bfloat16, float16. \\[env: ONESENSE_DTYPE]", rich_help_panel=_RUN
    ),
]
Device = Annotated[
    str | None,
    typer.Option("--device", help="auto, cpu, cuda, mps. \\[env: ONESENSE_DEVICE]", rich_help_panel=_RUN),
]
DeviceMap = Annotated[
    str | None,
    typer.Option(
        "--device-map",
        help="Spread a model larger than one device over GPUs, memory and disk: auto, balanced, balanced_low_0, "
        "sequential. \\[env: ONESENSE_DEVICE_MAP]",
        rich_help_panel=_RUN,
    ),
]
Text = Annotated[
    str | None,
    typer.Option(
        "--text", help="File, folder, .jsonl, .parquet or hub dataset; the packaged sample by default."
    ),
]
TextField = Annotated[str, typer.Option("--text-field", help="Column that holds the text.")]
Check = Annotated[
    bool, typer.Option("--check/--no-check", help="Check first that each dictionary fits the model.")
]
Force = Annotated[
    bool, typer.Option("--force", help="Go on where a check fails, and mark the run.", rich_help_panel=_RUN)
]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Work on a Ray cluster: local starts one here; auto; host:port. \\[env: ONESENSE_RAY]",
        envvar="ONESENSE_RAY",
        show_envvar=False,
        rich_help_panel="Machines",
    ),
]
RayStorage = Annotated[
    str | None,
    typer.Option(
        "--ray-storage",
        help="Folder or fsspec URL that every machine reaches, for large results. \\[env: ONESENSE_RAY_STORAGE]",
        envvar="ONESENSE_RAY_STORAGE",
        show_envvar=False,
        rich_help_panel="Machines",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bars.", rich_help_panel=_RUN)]
