import pytest
from hypothesis import given
from hypothesis import strategies as st

from onesense.errors import HookPointError
from onesense.model.hook_points import MAPPABLE_SUFFIXES, HookPoint


@given(st.integers(0, 999_999), st.sampled_from(MAPPABLE_SUFFIXES))
def test_name_and_parse_are_inverse(layer: int, suffix: str) -> None:
    point = HookPoint(layer, suffix)
    assert HookPoint.parse(point.name) == point
    assert HookPoint.parse(f" {point} ") == point


@pytest.mark.parametrize(
    "name",
    ["", "blocks.8", "blocks.-1.hook_resid_pre", "blocks.x.hook_resid_pre", "hook_embed", "ln_final.hook_normalized",
     "blocks.1.ln1.hook_normalized", "blocks.1.hook_mlp_in", "blocks.1.hook_resid_post.extra", "../etc/passwd"],
)  # fmt: skip
def test_unmappable_names_are_refused_with_the_list(name: str) -> None:
    with pytest.raises(HookPointError) as caught:
        HookPoint.parse(name)
    for suffix in MAPPABLE_SUFFIXES:
        assert suffix in str(caught.value)


def test_a_near_miss_is_corrected() -> None:
    with pytest.raises(HookPointError, match="Did you mean `blocks.<layer>.hook_resid_pre`"):
        HookPoint.parse("blocks.8.hook_residpre")


@given(st.text())
def test_no_text_crashes_the_parser(text: str) -> None:
    try:
        point = HookPoint.parse(text)
    except HookPointError:
        return
    assert point.name == text.strip()
