import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from onesense.config import ENVIRONMENT_NAMES, Settings, cache_directory, load_settings
from onesense.errors import ConfigurationError

CANARY = "sk-canary-0123456789"


@pytest.fixture(autouse=True)
def clean_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ENVIRONMENT_NAMES.values():
        monkeypatch.delenv(name, raising=False)
    return tmp_path


SAMPLES = {
    "model_name": ("gpt2-small", "gpt2-small"),
    "sae_release": ("gpt2-small-res-jb", "gpt2-small-res-jb"),
    "sae_id": ("blocks.0.hook_resid_pre", "blocks.0.hook_resid_pre"),
    "layer": ("8", 8),
    "top_activations_file": ("a b/top.json", Path("a b/top.json")),
    "interpreted_features_file": ("i.json", Path("i.json")),
    "feature_to_steer": ("24571", 24571),
    "steering_coeff": ("-300", -300.0),
    "steering_temp": ("0.7", 0.7),
    "steering_prompt": ("What is your favorite animal?", "What is your favorite animal?"),
    "run_folder": ("runs/é", Path("runs/é")),
    "seed": ("7", 7),
    "dtype": ("bfloat16", "bfloat16"),
    "device": ("cuda:1", "cuda:1"),
}


def test_the_names_of_the_original_are_kept_and_ours_are_prefixed():
    assert set(ENVIRONMENT_NAMES) == set(Settings.model_fields)
    for field, name in ENVIRONMENT_NAMES.items():
        ours = field in ("run_folder", "seed", "dtype", "device", "device_map", "explainer_model")
        assert name == ("ONESENSE_" if ours else "") + field.upper()


@pytest.mark.parametrize("place", ["command line", "environment", ".env", "onesense.toml"])
@pytest.mark.parametrize("field", SAMPLES)
def test_every_setting_from_every_place(monkeypatch, place, field):
    text, value = SAMPLES[field]
    given = {}
    if place == "command line":
        given[field] = value
    elif place == "environment":
        monkeypatch.setenv(ENVIRONMENT_NAMES[field], text)
    elif place == ".env":
        Path(".env").write_text(f"{ENVIRONMENT_NAMES[field]}={json.dumps(text, ensure_ascii=False)}\n")
    else:
        toml = value if isinstance(value, int | float) else text
        Path("onesense.toml").write_text(f"{field} = {json.dumps(toml, ensure_ascii=False)}\n")
    settings = load_settings(**given)
    assert getattr(settings, field) == value
    others = {name for name in SAMPLES if getattr(settings, name) != getattr(Settings(), name)}
    assert others <= {field}


@pytest.mark.parametrize("strongest", range(4))
def test_precedence(monkeypatch, strongest):
    given = {}
    if strongest <= 3:
        Path("onesense.toml").write_text("layer = 3\nseed = 33")
    if strongest <= 2:
        Path(".env").write_text("LAYER=2")
    if strongest <= 1:
        monkeypatch.setenv("LAYER", "1")
    if strongest == 0:
        given["layer"] = 0
    settings = load_settings(**given)
    assert settings.layer == strongest
    assert settings.seed == 33  # what a stronger place does not set stays


def test_none_and_empty_mean_not_given(monkeypatch):
    Path(".env").write_text("LAYER=4\nSAE_ID=\n")
    monkeypatch.setenv("LAYER", "")
    settings = load_settings(layer=None)
    assert settings.layer == 4
    assert settings.sae_id is None


def test_a_dotenv_file_as_shells_read_it():
    Path(".env").write_text(
        "# comment\nexport MODEL_NAME=gpt2-small\nSAE_ID='blocks.0.hook_resid_pre'\n\n"
        'STEERING_PROMPT="My name is \\"X\\""  # trailing\nPATH_TO_NOWHERE=1\nDATABASE_URL=postgres://x\n',
    )
    settings = load_settings()
    assert settings.model_name == "gpt2-small"
    assert settings.sae_id == "blocks.0.hook_resid_pre"
    assert settings.steering_prompt == 'My name is "X"'


def test_a_folder_of_that_name_is_no_dotenv_file():
    Path(".env").mkdir()
    assert load_settings().model_name is None


@pytest.mark.parametrize("marked", [".env", "onesense.toml"])
def test_a_byte_order_mark(marked):
    Path(marked).write_text("LAYER=1" if marked == ".env" else "layer = 1", encoding="utf-8-sig")
    assert load_settings().layer == 1


BAD = {
    "layer": ["-1", "1.5", "eight", "9999999999999999999999"],
    "feature_to_steer": ["-1", "x"],
    "steering_coeff": ["nan", "inf", "-inf", "much"],
    "steering_temp": ["0", "-1", "nan", "inf"],
    "seed": ["-1", str(2**32)],
    "dtype": ["float8", "FLOAT32"],
    "device": ["gpu", "cuda:", "cuda:x", "cpu;rm"],
}


@pytest.mark.parametrize(("field", "text"), [(field, text) for field, texts in BAD.items() for text in texts])
def test_a_bad_value_names_itself_and_its_place(monkeypatch, field, text):
    name = ENVIRONMENT_NAMES[field]
    monkeypatch.setenv(name, text)
    with pytest.raises(ConfigurationError, match="the environment") as caught:
        load_settings()
    assert name in caught.value.message
    assert text in caught.value.message
    monkeypatch.delenv(name)

    Path(".env").write_text(f"{name}={text}\n")
    with pytest.raises(ConfigurationError, match=rf"{name}.*\.env"):
        load_settings()
    Path(".env").unlink()

    Path("onesense.toml").write_text(f"# settings\n{field} = {json.dumps(text)}\n")
    with pytest.raises(ConfigurationError, match=rf"{field}.*onesense\.toml, line 2"):
        load_settings()
    Path("onesense.toml").unlink()

    with pytest.raises(ConfigurationError, match=rf"{field}.*command line"):
        load_settings(**{field: text})


def test_all_bad_values_are_told_at_once(monkeypatch):
    monkeypatch.setenv("LAYER", "-1")
    Path("onesense.toml").write_text("seed = -1")
    with pytest.raises(ConfigurationError) as caught:
        load_settings(steering_temp=0.0)
    assert len(caught.value.message.splitlines()) == 3


@pytest.mark.parametrize("line", ["layer = true", "seed = false", "steering_coeff = true"])
def test_a_truth_value_is_no_number(line):
    Path("onesense.toml").write_text(line)
    with pytest.raises(ConfigurationError, match="not true or false"):
        load_settings()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"layer = 1\nseed 3\n", "line 2"),
        (b"layer = \n", "line 1"),
        (b"layer = 1\nlayer = 2\n", "line 2"),
        (b"layer = 1\n\nmodel_name = '\xff'\n", "line 3"),
    ],
)
def test_invalid_toml_names_file_and_line(clean_folder, content, expected):
    Path("onesense.toml").write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert str(clean_folder / "onesense.toml") in caught.value.message
    assert expected in caught.value.message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("modelname", "model_name"),
        ("MODEL_NAME", "model_name"),
        ("sae-release", "sae_release"),
        ("sed", "seed"),
    ],
)
def test_an_unknown_toml_key_is_refused_with_the_nearest(key, nearest):
    Path("onesense.toml").write_text(f"layer = 1\n\n{key} = 1\n")
    with pytest.raises(ConfigurationError, match=rf"line 3.*Did you mean {nearest}\?"):
        load_settings()


@pytest.mark.parametrize("content", ["[tool]\nx = 1\n", "[layer]\nx = 1\n", "layer = [1]\n", "[[seed]]\n"])
def test_tables_are_no_settings(content):
    Path("onesense.toml").write_text(content)
    with pytest.raises(ConfigurationError, match=r"onesense\.toml, line 1"):
        load_settings()


def test_a_folder_in_place_of_the_toml_file():
    Path("onesense.toml").mkdir()
    with pytest.raises(ConfigurationError, match="Cannot read"):
        load_settings()


def test_a_toml_link_that_leads_nowhere():
    Path("onesense.toml").symlink_to("gone.toml")
    with pytest.raises(ConfigurationError, match="Cannot read"):
        load_settings()


@pytest.mark.parametrize("file", [".env", "onesense.toml"])
def test_a_file_that_may_not_be_read(monkeypatch, file):
    Path(file).write_text("")

    def refuse(self, *arguments, **keywords):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(ConfigurationError, match=rf"Cannot read .*{file}: Permission denied"):
        load_settings()


def test_a_dotenv_file_in_another_encoding():
    Path(".env").write_bytes(f"OPENAI_API_KEY={CANARY}\nSTEERING_PROMPT=caf".encode() + b"\xe9\n")
    with pytest.raises(ConfigurationError, match="not UTF-8") as caught:
        load_settings()
    assert CANARY not in "".join(map(repr, chain(caught.value)))


def test_an_unknown_argument_is_refused():
    with pytest.raises(ConfigurationError, match="Did you mean layer"):
        load_settings(layr=3)


def chain(error):
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_the_key_shows_nowhere(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    settings = load_settings()
    assert settings.openai_api_key.get_secret_value() == CANARY
    shown = [repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())]
    assert all(CANARY not in text for text in shown)

    monkeypatch.setenv("LAYER", "-1")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert all(CANARY not in repr(error) + str(error) for error in chain(caught.value))


def test_a_bad_key_is_not_repeated():
    with pytest.raises(ConfigurationError, match="openai_api_key") as caught:
        load_settings(openai_api_key=[CANARY])
    assert all(CANARY not in repr(error) + str(error) for error in chain(caught.value))


def test_the_key_does_not_belong_in_the_toml_file():
    Path("onesense.toml").write_text(f'openai_api_key = "{CANARY}"\n')
    with pytest.raises(ConfigurationError, match="line 1") as caught:
        load_settings()
    assert "OPENAI_API_KEY" in caught.value.hint
    assert CANARY not in str(caught.value)


def test_settings_cannot_be_changed_and_travel_to_workers():
    settings = load_settings(layer=3)
    with pytest.raises(ValueError, match="frozen"):
        settings.layer = 4
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301


def test_cache_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("ONESENSE_CACHE", str(tmp_path / "a b"))
    assert cache_directory() == tmp_path / "a b"
    monkeypatch.setenv("ONESENSE_CACHE", "relative")
    assert cache_directory() == Path.cwd() / "relative"
    monkeypatch.setenv("ONESENSE_CACHE", "~/x")
    assert cache_directory() == Path("~/x").expanduser()
    monkeypatch.setenv("ONESENSE_CACHE", " ")
    assert "onesense" in str(cache_directory())
    assert not os.path.exists(tmp_path / "a b")


def test_nothing_heavy_is_imported():
    code = (
        "import sys\n"
        "import onesense.config, onesense.engine.executor\n"
        "import onesense.store.catalog, onesense.store.provenance, onesense.store.run_folder\n"
        "print([name for name in ('torch', 'transformers', 'sae_lens', 'numba') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
