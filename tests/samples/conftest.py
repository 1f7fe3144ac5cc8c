"""Shared by the tests of the samples: the painter of a split, where the emoji font is installed."""

import pytest

from samples.pocket_training.scenes import EXAMPLES, FontMissingError, Painter


@pytest.fixture(scope="session")
def painter() -> Painter:
    """The painter of the sample pictures' split."""
    try:
        return Painter(EXAMPLES)
    except FontMissingError as error:
        pytest.skip(f"scenes can't be drawn here: {error}")
