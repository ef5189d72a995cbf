"""The words for time that users write."""

from fractions import Fraction

import pytest

from dreamflow.errors import UsageError
from dreamflow.frames import parse_rate


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("25", Fraction(25)),
        ("24.0", Fraction(24)),
        ("12.5", Fraction(25, 2)),
        ("24000/1001", Fraction(24000, 1001)),
        ("23.976", Fraction(24000, 1001)),
        ("23.98", Fraction(24000, 1001)),
        ("29.97", Fraction(30000, 1001)),
        ("59.94", Fraction(60000, 1001)),
    ],
)
def test_a_rate_is_read_exactly_and_video_decimals_mean_their_fraction(
    text: str, rate: Fraction
) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "0", "0/1", "1/0", "-25", "nan", "1e3", "1001", "25 fps"])
def test_what_is_no_rate_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(UsageError, match="23.976 or 24000/1001"):
        parse_rate(text)
