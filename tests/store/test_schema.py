import pytest

from onesense.errors import FormatError, IncompatibleError
from onesense.store.schema import SCHEMA_VERSION, check_schema


def test_every_version_up_to_ours_is_read():
    assert [check_schema(version) for version in range(1, SCHEMA_VERSION + 1)] == list(
        range(1, SCHEMA_VERSION + 1)
    )


def test_a_newer_one_is_refused_with_both_numbers():
    with pytest.raises(
        IncompatibleError, match=rf"x\.json.*{SCHEMA_VERSION + 1}.*{SCHEMA_VERSION}"
    ) as caught:
        check_schema(SCHEMA_VERSION + 1, where="x.json")
    assert "Upgrade" in caught.value.hint


@pytest.mark.parametrize("found", [None, 0, -1, "1", 1.0, True, [], {}])
def test_what_is_no_version(found):
    with pytest.raises(FormatError):
        check_schema(found)
