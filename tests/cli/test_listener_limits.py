"""What a listener's peers may take, from the settings."""

import pytest

from cli.listener import limits_of
from config.settings import ReceiverSettings


@pytest.mark.parametrize(("associations", "of_strangers", "are"), [(25, 0, 6), (3, 0, 1), (25, 2, 2)])
def test_unknown_callers_have_what_is_configured_or_a_quarter_and_at_least_one(
    associations: int, of_strangers: int, are: int
) -> None:
    settings = ReceiverSettings(maximum_associations=associations, maximum_associations_of_strangers=of_strangers)
    assert limits_of(settings).maximum_associations_of_strangers == are
