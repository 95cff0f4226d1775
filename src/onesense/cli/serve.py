"""``onesense serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onesense.cli import options

_LOCAL_ADDRESSES = ("127.0.0.1", "::1", "localhost")
_PORT = 8377


def serve_command(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Run folders, or folders that hold them.", show_default="onesense-runs, and the runs here"
        ),
    ] = None,
    port: Annotated[int, typer.Option("--port", help="0 takes any that is free.", min=0, max=65535)] = _PORT,
    host: Annotated[
        str, typer.Option("--host", help="Address of this machine: 127.0.0.1, ::1 or localhost.")
    ] = _LOCAL_ADDRESSES[0],
    open_browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in the browser.")
    ] = False,
    warm: Annotated[
        bool, typer.Option("--warm/--no-warm", help="Load the first run's model before anybody asks.")
    ] = True,
    device: options.Device = None,
) -> None:
    """Look at features, steer, tune by hand and read the evidence on a local web page."""
    from onesense.config import load_settings
    from onesense.errors import ConfigurationError

    if host not in _LOCAL_ADDRESSES:
        raise ConfigurationError(
            f"The page cannot be opened to other machines (--host {host}).",
            hint="Anybody who reaches it can run the model. From elsewhere: ssh -L 8377:127.0.0.1:8377 MACHINE.",
        )
    settings = load_settings(device=device)
    roots = list(runs or (Path("onesense-runs"), Path()))
    for root in runs or ():
        if not root.is_dir():
            raise ConfigurationError(f"{root} is not a folder.", hint="Give a run folder.")

    from onesense.web.app import create_app
    from onesense.web.server import serve
    from onesense.web.workspace import DEFAULT_FOLDER, Workspace

    workspace = Workspace(roots, DEFAULT_FOLDER)
    serve(create_app(workspace, device=settings.device, warm=warm), host, port, open_browser=open_browser)
