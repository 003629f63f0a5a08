"""Settings and fixtures that all tests share."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray
from PIL import Image

# The same examples in every run: a test that fails on one machine fails on the next.
settings.register_profile("tmuad", deadline=None, derandomize=True)
settings.load_profile("tmuad")


@pytest.fixture
def save_image(tmp_path: Path) -> Callable[[str, NDArray[np.uint8]], Path]:
    """Writes an image (H, W, 3) under the test's own folder and returns its path."""

    def save(name: str, image: NDArray[np.uint8]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
        return path

    return save
