"""Images side by side in one picture: for the command line, the dashboard and the book."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diffnotes.process.arguments import IntLike, integer

LARGEST = 1000  # columns, and pixels between them; more would fill the memory


def to_uint8(x: Tensor) -> np.ndarray:
    """Images in [-1, 1] (values beyond are cut) as values 0..255, uint8, of the same shape; ValueError for nan."""
    if not torch.is_tensor(x) or not x.is_floating_point() or x.is_meta or x.layout != torch.strided:
        came = f"dtype {x.dtype}" if torch.is_tensor(x) else type(x).__name__
        raise ValueError(f"x must be a tensor of floating-point numbers in [-1, 1], got {came}")
    x = x.detach().cpu().float()
    if x.isnan().any():
        raise ValueError("x must be numbers in [-1, 1], got nan")
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()


def grid_image(x: Tensor, columns: IntLike | None = None, scale: IntLike = 2, gap: IntLike = 2) -> Image.Image:
    """Images (B, C, H, W), grey (C = 1) or in colour (C = 3), in rows of `columns` (a square unless given), `scale` times
    enlarged, `gap` grey pixels apart; the picture has mode L or RGB."""
    if not torch.is_tensor(x) or x.ndim != 4 or x.shape[1] not in (1, 3) or 0 in x.shape:
        came = f"shape {tuple(x.shape)}" if torch.is_tensor(x) else type(x).__name__
        raise ValueError(f"x must be a batch of images (B, C, H, W) with C = 1 or 3, got {came}")
    scale, gap = integer("scale", scale, 1, LARGEST), integer("gap", gap, 0, LARGEST)
    pictures = to_uint8(x).transpose(0, 2, 3, 1)
    B, H, W, C = pictures.shape
    columns = int(np.ceil(np.sqrt(B))) if columns is None else integer("columns", columns, 1, LARGEST)
    rows = -(-B // columns)
    sheet = np.full((rows * (H + gap) - gap, columns * (W + gap) - gap, C), 128, np.uint8)
    for i, picture in enumerate(pictures):
        top, left = i // columns * (H + gap), i % columns * (W + gap)
        sheet[top : top + H, left : left + W] = picture
    image = Image.fromarray(sheet[:, :, 0] if C == 1 else sheet)
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
