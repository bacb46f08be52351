"""Images side by side in one picture: for the command line, the dashboard and the book."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_uint8(x: Tensor) -> np.ndarray:
    """Images in [-1, 1] (values beyond are cut) as grey values 0..255, uint8, of the same shape."""
    return ((x.detach().cpu().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()


def grid_image(x: Tensor, columns: int | None = None, scale: int = 2, gap: int = 2) -> Image.Image:
    """Images (B, 1, H, W) side by side in rows of `columns` (a square unless given), enlarged `scale` times."""
    if x.ndim != 4 or x.shape[1] != 1:
        raise ValueError(f"x must be a batch of grey images (B, 1, H, W), got shape {tuple(x.shape)}")
    pictures = to_uint8(x)[:, 0]
    B, H, W = pictures.shape
    columns = columns or int(np.ceil(np.sqrt(B)))
    rows = -(-B // columns)
    sheet = np.full((rows * (H + gap) - gap, columns * (W + gap) - gap), 128, np.uint8)
    for i, picture in enumerate(pictures):
        top, left = i // columns * (H + gap), i % columns * (W + gap)
        sheet[top : top + H, left : left + W] = picture
    image = Image.fromarray(sheet)
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
