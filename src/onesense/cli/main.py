"""The command line: parse, call, show. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Annotated, NoReturn

import setproctitle
import typer

from onesense import __version__
from onesense.cli.audit import audit_command
from onesense.cli.data import data_app
from onesense.cli.debias import debias_command
from onesense.cli.export import export_command
from onesense.cli.extract import extract_command
from onesense.cli.features import features_app
from onesense.cli.harness import harness_command
from onesense.cli.interpret import interpret_command
from onesense.cli.sae import sae_app
from onesense.cli.senses import senses_app
from onesense.cli.serve import serve_command
from onesense.cli.steer import steer_command
from onesense.cli.study import study_command
from onesense.cli.tune import tune_command
from onesense.cli.verify import verify_command
from onesense.errors import OnesenseError

# Typer brings its own copy of click in newer releases: reach the base of all its errors through typer itself.
_USAGE_ERROR: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)

_KEY_FLAG = "--openai-api-key"
_INTERRUPTED = 130

# The original project spelled its flags with underscores; both spellings are the same flag.
_CONTEXT = {
    "token_normalize_func": lambda token: token.replace("_", "-"),
    "help_option_names": ["-h", "--help"],
}

app = typer.Typer(
    name="onesense",
    help="Find the features of a language model that carry gender bias, give each one sense, tune them, prove it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=_CONTEXT,
)
app.command("extract", context_settings=_CONTEXT)(extract_command)
app.command("interpret", context_settings=_CONTEXT)(interpret_command)
app.command("steer", context_settings=_CONTEXT)(steer_command)
app.command("audit", context_settings=_CONTEXT)(audit_command)
app.command("debias", context_settings=_CONTEXT)(debias_command)
app.command("tune", context_settings=_CONTEXT)(tune_command)
app.command("export", context_settings=_CONTEXT)(export_command)
app.command("study", context_settings=_CONTEXT)(study_command)
app.command("serve", context_settings=_CONTEXT)(serve_command)
app.command("verify", context_settings=_CONTEXT)(verify_command)
app.command(
    "lm-eval",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)(harness_command)
app.add_typer(sae_app, name="sae")
app.add_typer(features_app, name="features")
app.add_typer(senses_app, name="senses")
app.add_typer(data_app, name="data")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"onesense {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version


def _hide_key(arguments: Sequence[str]) -> None:
    """Write over a key in the list of processes, which everybody on the machine can read."""
    hidden, secret = [], False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        is_key = name.replace("_", "-") == _KEY_FLAG
        hidden.append("***" if secret else f"{name}=***" if is_key and equals else argument)
        secret = is_key and not equals
    if hidden != list(arguments):
        setproctitle.setproctitle(" ".join(["onesense", *hidden]))


def _terminated(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(143)


def main() -> None:
    """Run the command line; errors become a message and an exit code, never a traceback for a user's mistake."""
    _hide_key(sys.argv[1:])
    signal.signal(signal.SIGTERM, _terminated)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Threads that spin while they wait make a busy machine several times slower than it need be.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    warnings.showwarning = _showing(warnings.showwarning)
    try:
        code = app(standalone_mode=False)
    except typer.Abort:
        _leave("Interrupted.", _INTERRUPTED)
    except _USAGE_ERROR as error:
        error.show()  # type: ignore[attr-defined]
        sys.exit(error.exit_code)  # type: ignore[attr-defined]
    except OnesenseError as error:
        hint = f"\n{error.hint}" if error.hint else ""
        _leave(f"Error: {error.message}{hint}", error.exit_code)
    except KeyboardInterrupt:
        _leave("Interrupted. The same command goes on where it stopped.", _INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    if code == _INTERRUPTED:  # typer makes this of Ctrl-C
        _leave("Interrupted. The same command goes on where it stopped.", _INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _showing(others: Callable[..., None]) -> Callable[..., None]:
    """Our own warnings are lines for the user; those of libraries are shown as ever."""

    def show(message: Warning | str, category: type[Warning], *place: object, **more: object) -> None:
        if category.__module__.startswith("onesense."):
            sys.stderr.write(_printable(f"Warning: {message}") + "\n")
        else:
            others(message, category, *place, **more)

    return show


def _leave(message: str, code: int) -> NoReturn:
    sys.stderr.write(_printable(message) + "\n")
    sys.exit(code)


def _printable(text: str) -> str:
    """Control characters in a message (from a file's name, say) must not reach the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)
