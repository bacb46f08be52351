"""How a run's samples come out of the noise: a row of them after certain numbers of updates, always from the same noise."""

from collections.abc import Sequence

import ipywidgets as widgets
from PIL import Image

from diffnotes.book.live import plots
from diffnotes.book.live.run_view import RunView
from diffnotes.book.live.widgets import png

LABEL = {"width": "170px"}
ROW = {"align_items": "center", "margin": "6px 0 0"}


class Snapshots:
    """A row of samples after each of these numbers of `updates`, with the averaged weights and from the first half of the
    view's noise; the number 0 is what the network draws before its first update. `widget` (None without numbers) grows by a row
    whenever one is reached; `taken` are the labels and pictures so far.

    ValueError unless the numbers are whole, not negative, and ascend."""

    def __init__(self, view: RunView, updates: Sequence[int]) -> None:
        numbers = list(updates)
        if any(type(n) is not int or n < 0 for n in numbers) or numbers != sorted(set(numbers)):
            raise ValueError(f"snapshots must be whole numbers of updates that ascend, from 0 on, got {numbers}")
        self.view, self.taken = view, dict[int, tuple[str, Image.Image]]()
        begun = view.trainer.update
        self._due = {n for n in numbers if n >= begun} if view.networks else set()
        self.widget: widgets.VBox | None = widgets.VBox() if numbers else None
        self.take_if_due()

    def take_if_due(self) -> None:
        """Draw a row if the run has just made one of the numbers of updates."""
        update = self.view.trainer.update
        if self.widget is None or update not in self._due:
            return
        losses = ", ".join(f"{name} {median:.2f}" for name, median in self.view.medians().items()) if update else ""
        label, picture = f"{update:,} updates{losses and f' · {losses}'}", self.view.row()
        self._due.remove(update)
        self.taken[update] = label, picture
        image = widgets.Image(value=png(picture), format="png", width=self.view.shown_width(picture.width))
        row = widgets.HBox([widgets.Label(label, layout=LABEL), image], layout=ROW)
        self.widget.children = (*self.widget.children, row)

    def html(self) -> str:
        """The rows for readers without a kernel."""
        lines = [
            f'<tr><th scope="row" style="text-align:left">{label}</th><td>{self._tag(n, picture)}</td></tr>'
            for n, (label, picture) in self.taken.items()
        ]
        return f"<table>{''.join(lines)}</table>" if lines else ""

    def _tag(self, update: int, picture: Image.Image) -> str:
        alt = f"{self.view.columns} {self.view.what} drawn after {update:,} updates."
        return plots.img_tag(picture, alt, self.view.shown_width(picture.width), exact=True)
