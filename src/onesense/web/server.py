"""The application on a port of this machine."""

from __future__ import annotations

import errno
import socket
import sys
import webbrowser

import uvicorn
from fastapi import FastAPI

from onesense.errors import ConfigurationError

_SECONDS_TO_LEAVE = 2
_WAITING = 128


def serve(app: FastAPI, host: str, port: int, *, open_browser: bool = False) -> None:
    """Answer until interrupted.

    Args:
        app: The application.
        host: Address of this machine.
        port: Port; 0 takes any that is free.
        open_browser: Whether to open the page.

    Raises:
        ConfigurationError: The port is taken, or may not be used.
    """
    listening = _listen(host, port)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listening.getsockname()[1]}"
    sys.stderr.write(f"onesense is at {address} (this machine only; Ctrl-C ends it)\n")
    sys.stderr.flush()
    if open_browser:
        webbrowser.open(address)
    configuration = uvicorn.Config(
        app,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=_SECONDS_TO_LEAVE,
        limit_concurrency=512,
        ws="none",
    )
    with listening:
        uvicorn.Server(configuration).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends small answers at once (TCP_NODELAY) only where the protocol is named: else each waits 40 ms
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(_WAITING)  # before the address is told: who reads it may ask at once
    except OSError as error:
        listening.close()
        taken = error.errno == errno.EADDRINUSE
        raise ConfigurationError(
            f"Port {port} {'is taken' if taken else f'cannot be used: {error.strerror}'}.",
            hint="Choose another with --port; --port 0 takes any that is free.",
        ) from error
    return listening
