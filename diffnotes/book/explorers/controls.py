"""How the explorers' sliders look, and the usual ones; `more` is what ipywidgets itself takes, such as readout=False. And
what the explorers ask of images and of models."""

from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets
from torch import Tensor

from diffnotes.training.restore import class_names_of

DIGITS = tuple("0123456789")
LOOK: dict[str, Any] = {"layout": {"width": "300px"}, "style": {"description_width": "45px"}}


def float_slider(
    description: str, value: float, low: float, high: float, step: float, form: str = ".2f", **more: Any
) -> widgets.FloatSlider:
    """A slider for a number, in the explorers' width; `form` is how its value is written beside it."""
    return widgets.FloatSlider(
        value, min=low, max=high, step=step, description=description, readout_format=form, **LOOK, **more
    )


def log_slider(
    description: str, value: float, low: float, high: float, step: float, form: str = ".2g"
) -> widgets.FloatLogSlider:
    """A slider for a number from 10^low to 10^high, in steps of a factor 10^step."""
    return widgets.FloatLogSlider(
        value, min=low, max=high, step=step, description=description, readout_format=form, **LOOK
    )


def int_slider(description: str, value: int, low: int, high: int, step: int = 1, **more: Any) -> widgets.IntSlider:
    """A slider for a whole number, in the explorers' width."""
    return widgets.IntSlider(value, low, high, step, description=description, **LOOK, **more)


def dropdown(description: str, options: Sequence[Any], **more: Any) -> widgets.Dropdown:
    """A menu of `options`, values or (words, value) pairs, in the explorers' width; it begins with the first."""
    return widgets.Dropdown(options=options, description=description, **LOOK, **more)


def check_range(limits: dict[str, tuple[float, float, float]]) -> None:
    """ValueError for the first argument that its slider cannot show; `limits` are its value, lowest and highest by name."""
    for name, (value, low, high) in limits.items():
        if not low <= value <= high:
            raise ValueError(f"{name} must lie in {low:g}..{high:g}, got {value}")


def check_images(name: str, x: Tensor, most: int | None = None) -> Tensor:
    """x, if it is images (B, C, H, W), grey (C = 1) or in colour (C = 3), 1 to `most` of them; ValueError otherwise."""
    number = "a batch of" if most is None else f"1 to {most}"
    if not (isinstance(x, Tensor) and x.ndim == 4 and x.shape[1] in (1, 3) and 1 <= len(x) <= (most or len(x))):
        came = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"{name} must be {number} images (B, C, H, W) with C = 1 or 3, got {came}")
    return x


def one_image(name: str, image: Tensor) -> Tensor:
    """The image (C, H, W) or (1, C, H, W), grey or in colour, as a batch of one; ValueError otherwise."""
    batch = image[None] if isinstance(image, Tensor) and image.ndim == 3 else image
    if not (isinstance(batch, Tensor) and batch.ndim == 4 and len(batch) == 1 and batch.shape[1] in (1, 3)):
        came = f"shape {tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(f"{name} must be one image (C, H, W) with C = 1 or 3, got {came}")
    return batch


def shown_pixels(picture: Any) -> Any:
    """A picture (C, H, W) as matplotlib's imshow wants it: (H, W), or (H, W, 3) in colour."""
    return picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0)


def noisy_and_estimate(figure: Any, grid: Any, image: Tensor, estimate: str = r"$\hat{\mathbf{x}}_0$") -> list[Any]:
    """Two pictures, one above the other in the first column of the grid: x_t, and the network's `estimate` of the image, as
    the chapter writes it. They begin as `image`, (C, H, W)."""
    pictures = []
    for row, title in enumerate((r"$\mathbf{x}_t$", f"the network’s {estimate}")):
        ax = figure.add_subplot(grid[row, 0])
        ax.set_axis_off()
        ax.set_title(title, fontsize=10)
        pictures.append(ax.imshow(shown_pixels(image.numpy()), cmap="gray", vmin=-1, vmax=1))
    return pictures


def enlargement(width: int, about: int) -> int:
    """How many times images of this width are enlarged to be about so many pixels wide."""
    return max(1, round(about / width))


def label_names(model: Any) -> tuple[str, ...]:
    """The names of a model's labels; of one without num_classes, such as the optimal denoiser of a data set,
    the ten digits."""
    return class_names_of(model) if hasattr(model, "num_classes") else DIGITS


def noun(names: Sequence[str]) -> str:
    """What a model with labels of these names draws: digits, or pictures."""
    return "digit" if tuple(names) == DIGITS else "picture"
