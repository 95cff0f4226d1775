from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from onesense.errors import ConfigurationError, IncompatibleError
from onesense.senses.activity import Activity
from onesense.senses.unit_sets import UnitSet, feature_units
from onesense.senses.validation.growing_widths import WidthSettings, growing_widths
from senses.validation.small_activity import dictionary, merged_firings, small_text

SETTINGS = WidthSettings(units=40, contexts=16, draws=200)


def narrow_and_wide() -> tuple[Activity, list[UnitSet]]:
    """A dictionary of one feature for each kind of context, and one whose features each stand for two kinds."""
    activity, wide = small_text()
    directions = torch.nn.functional.normalize(wide.directions[:65] + wide.directions[65:], dim=1)
    narrow = feature_units(dictionary(directions), name="narrow")
    both = merged_firings(activity.firings["features"], [(unit, unit + 65) for unit in range(65)])
    return replace(activity, firings={**activity.firings, "narrow": both}), [wide, narrow]


def test_features_that_stand_for_two_things_have_more_senses() -> None:
    activity, sets = narrow_and_wide()
    found = growing_widths(activity, sets, "features", SETTINGS)
    narrow, wide = found.widths
    assert (narrow.name, narrow.width, wide.width) == ("narrow", 65, 130)
    assert (narrow.units, wide.units) == (40, 40)
    assert narrow.effective.low > wide.effective.high
    assert narrow.several.low > wide.several.high
    assert 1 <= wide.quartiles[0] <= wide.quartiles[1] <= wide.quartiles[2]
    assert narrow.median_density > wide.median_density


def test_bad_input_is_refused() -> None:
    activity, sets = narrow_and_wide()
    with pytest.raises(ConfigurationError, match="two or more"):
        growing_widths(activity, sets[:1], "features", SETTINGS)
    with pytest.raises(ConfigurationError, match="one of them `other`"):
        growing_widths(activity, sets, "other", SETTINGS)
    elsewhere = feature_units(dictionary(sets[1].directions, layer=3), name="narrow")
    with pytest.raises(IncompatibleError, match="different places"):
        growing_widths(activity, [sets[0], elsewhere], "features", SETTINGS)
    with pytest.raises(IncompatibleError, match="without narrow"):
        growing_widths(
            replace(activity, firings={"features": activity.firings["features"]}), sets, "features"
        )
    with pytest.raises(ConfigurationError):
        WidthSettings(units=1)
