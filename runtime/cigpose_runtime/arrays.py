"""The array types that signatures name; shapes are in the docstrings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

Pixels = NDArray[np.uint8]
"""Pictures: (H, W, 3), in the order blue, green, red unless said otherwise."""
