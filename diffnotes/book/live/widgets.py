"""Pictures that follow a slider within a frame or two.

A figure is drawn once; its axes, labels and grid become the background. After that only the curves are drawn again, and
the picture travels as a PNG. Axes stay fixed, so choose limits that hold for every value a slider can take.
"""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import ipywidgets as widgets
import numpy as np
from IPython.display import display
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from diffnotes.book.live import cells, plots

# For those who use a keyboard or a screen reader, ipywidgets leaves out two things. A slider's handle has no name: it gets
# the description. And the keys pressed on a drop-down list go to JupyterLab, where an arrow means the next cell: it shall
# not hear them. An HTML widget may carry a script, as the event of an element; this one is for the widgets of its output.
FOR_THE_KEYBOARD = """<style onload="(function help(self, tries) {
  const output = self.closest('.jp-OutputArea');
  output?.querySelectorAll('.widget-slider').forEach(slider =>
    slider.querySelector('.noUi-handle')?.setAttribute('aria-label', slider.querySelector('label').textContent));
  output?.querySelectorAll('select, button').forEach(part => part.setAttribute('data-lm-suppress-shortcuts', 'true'));
  if (tries) setTimeout(help, 250, self, tries - 1);  // some may not be there yet
})(this, 20)">/* nothing */</style>"""

# Clicks on an explorer's picture choose from its menu: as if the option whose box was hit had been chosen by hand.
FOR_THE_MOUSE = """<style onload="(function help(self, boxes, tries) {
  const output = self.closest('.jp-OutputArea');
  const picture = output?.querySelector('img.widget-image'), menu = output?.querySelector('select');
  if (!picture || !menu) { if (tries) setTimeout(help, 250, self, boxes, tries - 1); return; }  // not there yet
  const hit = event => boxes.findIndex(([left, top, right, bottom]) => {
    const x = event.offsetX / picture.clientWidth, y = event.offsetY / picture.clientHeight;
    return left <= x && x <= right && top <= y && y <= bottom;
  });
  picture.addEventListener('mousemove', event => { picture.style.cursor = hit(event) < 0 ? '' : 'pointer'; });
  picture.addEventListener('click', event => {
    if (hit(event) < 0) return;
    menu.selectedIndex = hit(event);
    menu.dispatchEvent(new Event('change', {bubbles: true}));
  });
})(this, %s, 20)">/* nothing */</style>"""

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
Box = tuple[float, float, float, float]  # left, top, right, bottom, as shares of a picture's width and height


class LivePlot:
    """A figure of which only `artists` change. After setting their data, call `refresh`; `image` is the widget to show
    (a new one, or one that another plot has used before)."""

    def __init__(self, figure: Figure, artists: Sequence[Artist], image: widgets.Image | None = None) -> None:
        self.figure, self.artists = figure, list(artists)
        for artist in self.artists:
            artist.set_animated(True)
        figure.canvas.draw()
        figure.set_layout_engine("none")  # the places of the axes are settled now
        figure.canvas.draw()
        self.canvas = cast(
            FigureCanvasAgg, figure.canvas
        )  # Agg, as plots.subplots makes it: it can copy and restore its pixels
        self.background: Any = self.canvas.copy_from_bbox(figure.bbox)
        self.image = image or image_widget(int(figure.bbox.width))

    def refresh(self) -> None:
        """Draw the artists on the background and send the picture."""
        self.image.value = png(self.picture())

    def picture(self) -> Image.Image:
        """The figure as it stands, as a PIL image."""
        self.canvas.restore_region(self.background)
        for artist in self.artists:
            axes: Any = artist.axes
            if artist.get_visible():
                axes.draw_artist(artist)
        return Image.fromarray(np.asarray(self.canvas.buffer_rgba())[..., :3])


class LivePicture:
    """A picture that is replaced as a whole: set `current` to a PIL image, then `refresh`; `image` is the widget to show."""

    def __init__(self, width: int) -> None:
        self.current = Image.new("L", (width, 8), 255)
        self.image = image_widget(width)

    def refresh(self) -> None:
        """Send the picture."""
        self.image.value = png(self.current)

    def picture(self) -> Image.Image:
        """The picture as it stands."""
        return self.current


class Explorer:
    """Sliders, a live picture and one line of reading that says what it shows, with a Reset button.

    `update(**values)` sets the picture's data from the controls' values and returns the reading as HTML. `boxes` are the
    places in the picture where a click chooses from the menu, if there is one: one for each of its options. `extra` are widgets
    that move a control, such as a play button. `stations` are the states that readers without a kernel see, one above the other:
    values of some controls each, the others as they are; without them, the state in which it stands."""

    def __init__(
        self,
        title: str,
        controls: Mapping[str, widgets.Widget],
        plot: LivePlot | LivePicture,
        update: Callable[..., str],
        alt: str,
        boxes: Sequence[Box] = (),
        extra: Sequence[widgets.Widget] = (),
        stations: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.controls, self.plot, self.update, self.alt, self.boxes = dict(controls), plot, update, alt, list(boxes)
        self.stations = list(stations)
        self.reading = widgets.HTML()
        self.defaults = {name: control.value for name, control in self.controls.items()}
        reset = widgets.Button(
            description="Reset", tooltip=f"{title}: back to the first values", layout={"width": "80px"}
        )
        reset.on_click(lambda _button: self.reset())
        for control in self.controls.values():
            control.observe(self._changed, "value")
        clicks = FOR_THE_MOUSE % json.dumps([[round(float(side), 4) for side in box] for box in boxes]) if boxes else ""
        heading = widgets.HTML(f"<b>{title}</b>{FOR_THE_KEYBOARD}{clicks}")
        sliders = widgets.VBox([heading, *extra, *self.controls.values(), reset], layout={"margin": "0 12px 0 0"})
        body = widgets.HBox([sliders, self.plot.image], layout={"flex_flow": "row wrap", "align_items": "flex-start"})
        self.widget = widgets.VBox([body, self.reading])
        self._quiet = False
        self._changed()

    def values(self) -> dict[str, Any]:
        """The controls' values by name."""
        return {name: control.value for name, control in self.controls.items()}

    def reset(self) -> None:
        """Back to the values the explorer began with."""
        self._quiet = True
        for name, value in self.defaults.items():
            self.controls[name].value = value
        self._quiet = False
        self._changed()

    def show(self) -> None:
        """Display it: live where a kernel runs, and pictures of its stations, or of its first state, where none does."""
        behind = [self._still(self.update(**{**self.values(), **station})) for station in self.stations]
        if behind:
            self.update(**self.values())  # back from the last station
        show_widget(self.widget, "".join(behind) or self._still(self.reading.value))

    def _still(self, reading: str) -> str:
        """The picture as it stands, with the reading below it."""
        if isinstance(self.plot, LivePlot):
            picture = plots.img_tag(self.plot.figure, self.alt)
        else:
            picture = plots.img_tag(self.plot.current, self.alt, exact=True)
        return f"{picture}<div>{reading}</div>"

    def _changed(self, _change: Any = None) -> None:
        if not self._quiet:
            self.reading.value = self.update(**self.values())
            self.plot.refresh()


def image_widget(width: int) -> widgets.Image:
    """A picture for a row of widgets, `width` pixels wide; down to three quarters of that where it saves a line break."""
    layout = {
        "flex": f"1 1 {width * 3 // 4}px",
        "min_width": "0px",
        "max_width": f"min({width}px, 100%)",
        "height": "auto",
    }
    return widgets.Image(format="png", width=width, layout=layout)


def show_widget(widget: widgets.Widget, fallback: str, display_id: str | None = None, update: bool = False) -> None:
    """Display a widget with HTML standing behind it for readers without a kernel; with `update`, in place of what has been
    displayed under `display_id`. The widgets that this cell's last run has shown are closed when it is done (cells.py)."""
    if update and widget.comm is None:  # closed: its cell has run again, and nothing is left to be updated
        return
    if not update:
        cells.open_again(widget)
        cells.remember(widget)
    bundle: dict[str, Any] = {
        "text/plain": "An interactive figure: run the notebook to use it.",
        "text/html": fallback,
    }
    if not cells.is_converted():
        bundle[WIDGET_VIEW] = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    display(bundle, raw=True, display_id=display_id, update=update)


def png(picture: Image.Image) -> bytes:
    """The picture as PNG, packed for speed rather than size."""
    buffer = io.BytesIO()
    picture.save(buffer, "png", compress_level=1)
    return buffer.getvalue()


def slider(description: str, value: int, low: int, high: int) -> widgets.IntSlider:
    """Show a slider for a whole number that later cells read as `.value`, and return it."""
    wide = {"description_width": "80px"}
    chosen = widgets.IntSlider(value, low, high, 1, description=description, style=wide, layout={"width": "500px"})
    show_widget(
        widgets.VBox([chosen, widgets.HTML(FOR_THE_KEYBOARD, layout={"display": "none"})]),
        f"{description}: {value} (a slider from {low} to {high} when the notebook runs)",
    )
    return chosen
