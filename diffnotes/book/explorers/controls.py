"""How the explorers' sliders look, and the usual ones; `more` is what ipywidgets itself takes, such as readout=False."""

from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets

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
