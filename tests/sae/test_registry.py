"""The registry of published dictionaries, against sae-lens' own reading of it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onesense.errors import NotFoundError
from onesense.sae.registry import is_published, nearest_names, published, releases, sae_ids


def test_equals_what_sae_lens_reads() -> None:
    from sae_lens.loading.pretrained_saes_directory import get_config_overrides, get_pretrained_saes_directory

    theirs = get_pretrained_saes_directory()
    assert set(releases()) == set(theirs)
    for release, lookup in theirs.items():
        assert set(sae_ids(release)) == set(lookup.saes_map)
        sae_id = next(iter(lookup.saes_map))
        entry = published(release, sae_id)
        assert (entry.repo_id, entry.folder) == (lookup.repo_id, lookup.saes_map[sae_id])
        assert entry.loader == (lookup.conversion_func or "sae_lens")
        assert entry.norm_factor == lookup.norm_scaling_factor.get(sae_id)
        assert (entry.expected_l0 or 0.0) == lookup.expected_l0[sae_id]
        overrides = {key: value for key, value in get_config_overrides(release, sae_id).items() if value}
        assert dict(entry.overrides) == overrides


@pytest.mark.parametrize(
    ("release", "sae_id", "center"),
    [
        ("gpt2-small-res-jb", "blocks.8.hook_resid_pre", True),
        ("gpt2-small-res-jb-feature-splitting", "blocks.8.hook_resid_pre_768", True),
        ("gpt2-small-resid-post-v5-32k", "blocks.8.hook_resid_post", False),
    ],
)
def test_which_releases_are_centred(release: str, sae_id: str, center: bool) -> None:
    assert published(release, sae_id).center is center


def test_published_values() -> None:
    entry = published("gpt2-small-res-jb", "blocks.0.hook_resid_pre")
    assert entry.expected_l0 == 10.0
    assert entry.expected_fvu == pytest.approx(0.001)
    assert published("gemma-scope-2b-pt-res-canonical", "layer_12/width_16k/canonical").expected_fvu is None


def test_an_unknown_release_offers_near_ones() -> None:
    with pytest.raises(NotFoundError) as caught:
        published("gpt2-smal-res-jb", "blocks.0.hook_resid_pre")
    assert "gpt2-small-res-jb" in str(caught.value.hint)
    assert "sae list" in str(caught.value.hint)
    assert not is_published("gpt2-smal-res-jb")


def test_an_unknown_id_offers_near_ones() -> None:
    with pytest.raises(NotFoundError) as caught:
        published("gpt2-small-res-jb", "blocks.8.hook_resid_post")
    assert "blocks.8.hook_resid_pre" in str(caught.value.hint)


@given(name=st.text(max_size=30), known=st.lists(st.text(min_size=1, max_size=20), unique=True, max_size=10))
def test_nearest_names_come_from_the_known_ones(name: str, known: list[str]) -> None:
    near = nearest_names(name, known)
    assert set(near) <= set(known)
    assert bool(near) == bool(known)


def test_reading_it_does_not_import_sae_lens() -> None:
    program = (
        "import sys; from onesense.sae.registry import releases; releases(); print('sae_lens' in sys.modules)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert printed.strip() == "False"
