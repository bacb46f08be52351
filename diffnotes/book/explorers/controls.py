"""How the explorers' sliders look, and the usual ones."""

import ipywidgets as widgets

WIDE = {"width": "300px"}
WORDS = {"description_width": "45px"}


def number(
    description: str, value: float, low: float, high: float, step: float, form: str = ".2f"
) -> widgets.FloatSlider:
    """A slider for a number, in the explorers' width; `form` is how its value is written beside it."""
    return widgets.FloatSlider(
        value, min=low, max=high, step=step, description=description, readout_format=form, layout=WIDE, style=WORDS
    )


def whole(description: str, value: int, low: int, high: int, step: int = 1) -> widgets.IntSlider:
    """A slider for a whole number, in the explorers' width."""
    return widgets.IntSlider(value, low, high, step, description=description, layout=WIDE, style=WORDS)
