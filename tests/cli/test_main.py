from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from command_line import Run
from onesense import __version__, errors


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['onesense', '--help']\n"
        "from onesense.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'transformers', 'sae_lens', 'numba', 'numpy', 'datasets', 'matplotlib', 'scipy'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "extract" in done.stdout
    assert "steer" in done.stdout
    assert "HEAVY []" in done.stdout


def test_ctrl_c_says_that_the_same_command_goes_on(onesense: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(**_settings: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("onesense.config.load_settings", interrupted)
    outcome = onesense("interpret")
    assert outcome.code == 130
    assert "The same command goes on where it stopped." in outcome.err


def test_version(onesense: Run) -> None:
    assert onesense("--version").out.strip() == f"onesense {__version__}"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--nonsense"],
        ["nonsense"],
        ["extract", "--layer", "x"],
        ["steer", "--no-such-flag"],
        ["sae", "train"],
    ],
)
def test_bad_usage_exits_2_without_a_traceback(onesense: Run, arguments: list[str]) -> None:
    outcome = onesense(*arguments)
    assert outcome.code == 2
    assert "Traceback" not in outcome.err
    assert outcome.err.strip()


def test_every_error_has_its_own_exit_code_and_a_status() -> None:
    kinds = [errors.ConfigurationError, errors.NotFoundError, errors.FormatError, errors.IncompatibleError,
             errors.StorageError, errors.LockedError, errors.NetworkError, errors.NumericalError,
             errors.DeviceError]  # fmt: skip
    assert len({kind.exit_code for kind in kinds}) == len(kinds)
    assert all(400 <= kind.http_status < 600 for kind in kinds)
    for kind in kinds:
        error = kind("what", hint="how")
        assert str(error) == "what\nhow"
        again = error.__reduce__()
        assert str(again[0](*again[1])) == str(error)  # type: ignore[operator]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_leave_with_their_code_and_nothing_half_written(
    number: int, code: int, gpt2_folder: Path, sae_folder: Path, tmp_path: Path
) -> None:
    long = tmp_path / "long.txt"
    long.write_text("The quick brown fox jumps. " * 200_000)
    run = tmp_path / "run"
    command = [sys.executable, "-m", "onesense", "extract", str(gpt2_folder), "--sae-path", str(sae_folder)]
    command += ["--text", str(long), "--run-folder", str(run), "--no-check", "--quiet"]
    # A test run started in the background hands down an ignored SIGINT; a terminal does not.
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while not (run / "lens.safetensors").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert not [path for path in run.rglob("*") if "tmp" in path.suffix]


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("extract", ["MODEL_NAME", "SAE_RELEASE", "SAE_ID", "LAYER", "TOP_ACTIVATIONS_FILE"]),
        ("interpret", ["TOP_ACTIVATIONS_FILE", "INTERPRETED_FEATURES_FILE", "OPENAI_API_KEY"]),
        ("steer", ["FEATURE_TO_STEER", "STEERING_COEFF", "STEERING_TEMP", "STEERING_PROMPT"]),
    ],
)
def test_help_names_the_environment(
    onesense: Run, monkeypatch: pytest.MonkeyPatch, command: str, names: list[str]
) -> None:
    """Square brackets are markup to the library that prints the help: they vanish unless they are escaped."""
    monkeypatch.setenv("COLUMNS", "200")
    shown = onesense(command, "--help").out
    for name in names:
        assert f"[env: {name}]" in shown, shown
