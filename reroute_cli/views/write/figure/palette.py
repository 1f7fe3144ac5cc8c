"""The colours of a trace's figure: Okabe and Ito's for what has a name, cividis for scores.

Both are told apart with any colour vision: https://jfly.uni-koeln.de/color/ and Nuñez, Anderton and Renslow,
"Optimizing colormaps with consideration for color vision deficiency", 2018. Knows nothing of what is drawn.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]

PAPER: Colour = (255, 255, 255)
INK: Colour = (26, 28, 32)
SOFT: Colour = (98, 103, 112)
RULE: Colour = (214, 217, 222)
BLANK: Colour = (232, 234, 237)
REENTERED: Colour = (240, 228, 66)
TARGET: Colour = (0, 114, 178)
ANSWER: Colour = (213, 94, 0)
ARMS: dict[str | None, Colour] = {None: (110, 115, 124), "prune": (213, 94, 0), "reroute": (0, 158, 115)}

_CIVIDIS = (
    (0, 34, 78),
    (18, 53, 112),
    (59, 73, 108),
    (87, 93, 109),
    (112, 113, 115),
    (138, 134, 120),
    (165, 156, 116),
    (195, 179, 105),
    (225, 204, 85),
    (254, 232, 56),
)


def heat(share: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Colours (..., 3) of shares from 0 to 1."""
    steps = np.linspace(0.0, 1.0, len(_CIVIDIS))
    bands = [np.interp(share, steps, [colour[band] for colour in _CIVIDIS]) for band in range(3)]
    return np.stack(bands, axis=-1).round().astype(np.uint8)
