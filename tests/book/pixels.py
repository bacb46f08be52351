"""What an explorer shows, as pixels."""

import io

import numpy as np
from PIL import Image

from diffnotes.book.live import widgets as live


def sent(explorer: live.Explorer) -> np.ndarray:
    """The pixels of its picture, (height, width, 3)."""
    return np.asarray(Image.open(io.BytesIO(explorer.plot.image.value)).convert("RGB"))
