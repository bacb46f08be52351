"""Pictures: one look for the whole book, alt text on every figure, and images in grids and film strips.

Figures are made with matplotlib's object interface (never pyplot), and shown as HTML with an alt text: the only form in
which JupyterLab, the HTML edition and code hosts all keep it."""

import base64
import html
import io
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
from cycler import cycler
from IPython.display import HTML, display
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from diffnotes.process.arguments import integer
from diffnotes.process.samplers import Frame
from diffnotes.training.grid import grid_image, to_uint8

# Okabe and Ito's eight colours: told apart with any kind of colour vision
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW, BLACK = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#222222",
)  # fmt: skip
STYLE = {
    "axes.prop_cycle": cycler(color=[BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK]),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 2.0,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",
}
matplotlib.rcParams.update(STYLE)  # a reader's own plots look like the book's


def subplots(
    rows: int = 1, columns: int = 1, size: tuple[float, float] = (7.0, 3.2), **kwargs: Any
) -> tuple[Figure, Any]:
    """A figure in the book's style and its axes, as pyplot.subplots gives them; size in inches. Show it with `show`."""
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, **kwargs)


def show(picture: Figure | Image.Image, alt: str, width: int | None = None, exact: bool = False) -> None:
    """Display a figure or a PIL image with its alt text, `width` CSS pixels wide (its own width unless given)."""
    display(HTML(img_tag(picture, alt, width, exact)))


def img_tag(picture: Figure | Image.Image, alt: str, width: int | None = None, exact: bool = False) -> str:
    """The picture as an HTML <img> that carries its own data, a figure with two pixels for each of the page's, for sharp
    screens. Greys are kept; of colours the 128 that suit it best, which is enough for a figure and a third of its size, or all
    of them if exact, as a photograph needs. Lossless WebP: a fifth smaller than PNG, and every browser shows it."""
    if not alt.strip():
        raise ValueError("alt must say in a sentence what the picture shows, got an empty text")
    shown = int(picture.get_figwidth() * 100) if isinstance(picture, Figure) else picture.width
    image = figure_image(picture, dpi=200) if isinstance(picture, Figure) else picture
    if image.mode != "L":
        image = image.convert("RGB") if exact else image.convert("RGB").quantize(128, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "webp", lossless=True, quality=100, method=4)
    data = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<img alt="{html.escape(alt)}" width="{width or shown}" style="max-width:100%;height:auto" '
        f'src="data:image/webp;base64,{data}">'
    )


def figure_image(figure: Figure, dpi: int = 100) -> Image.Image:
    """The figure as a PIL image."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return Image.open(buffer)


def images(x: Tensor, alt: str, columns: int | None = None, scale: int = 2) -> None:
    """Show a batch of images (B, C, H, W), grey or in colour, as a grid."""
    show(grid_image(x, columns, scale), alt, exact=True)


def filmstrip(frames: Sequence[Frame], alt: str = "", number: int = 10, rows: int = 3, which: str = "x_t") -> None:
    """Show `number` of the frames, evenly chosen from the first to the last, for the first `rows` images of the batch,
    which are grey or in colour and of any shape.

    which: "x_t" for the noisy state, "x0_hat" for the image that the model sees in it, "both" for one above the other."""
    if which not in ("x_t", "x0_hat", "both"):
        raise ValueError(f'which must be "x_t", "x0_hat" or "both", got {which!r}')
    number, rows = integer("number", number, 1), integer("rows", rows, 1)
    if not frames:
        raise ValueError("frames must hold at least one Frame, got none")
    chosen = [frames[round(i)] for i in np.linspace(0, len(frames) - 1, min(number, len(frames)))]
    names = ["x_t", "x0_hat"] if which == "both" else [which]
    batch, channels, height, width = _shape(chosen[0].x_t)
    number, rows = len(chosen), min(rows, batch)
    down = rows * len(names)
    size = (0.8 * number + 0.5, (0.8 * height / width + 0.05) * down + 0.25)
    figure, axes = subplots(down, number, size=size, squeeze=False)
    for column, frame in enumerate(chosen):
        for row in range(rows):
            for part, name in enumerate(names):
                ax = axes[row * len(names) + part, column]
                picture = to_uint8(getattr(frame, name)[row]).transpose(1, 2, 0)  # (H, W, C); one channel is grey
                ax.imshow(picture[:, :, 0] if channels == 1 else picture, cmap="gray", vmin=0, vmax=255)
                ax.set(xticks=[], yticks=[])
                ax.spines[:].set_visible(False)
                if column == 0 and which == "both":
                    ax.set_ylabel("x_t" if name == "x_t" else "x̂_0", rotation=0, labelpad=10, va="center")
        axes[0, column].set_title(f"t = {frame.t}", fontsize=9, loc="center")
    default = f"Film strip of {rows} images from t = {chosen[0].t} to t = {chosen[-1].t}: noise turns into images step by step."
    show(figure, alt or default, exact=channels == 3)


def arrows(ax: Any, slope: Callable[[np.ndarray, float], np.ndarray], number: int = 15, length: float = 12.0) -> None:
    """The field dy/dx = slope(y, x) within the limits of `ax`, which must be set: number x number grey arrows, each `length`
    points long, that point to the right, also where x falls to the right."""
    (left, right), (bottom, top), place = ax.get_xlim(), ax.get_ylim(), ax.get_position()
    middles = (np.arange(number) + 0.5) / number
    x, y = np.meshgrid(left + (right - left) * middles, bottom + (top - bottom) * middles)
    slopes = np.stack([slope(column, x[0, i]) for i, column in enumerate(y.T)], axis=1)
    width, height = 72 * ax.get_figure().get_size_inches() * [place.width, place.height]  # of the axes, in points
    step = length / np.hypot(width / (right - left), height / (top - bottom) * slopes) * np.sign(right - left)
    ax.quiver(
        x, y, step, step * slopes, angles="xy", scale_units="xy", scale=1, pivot="mid", color="#b8b8b8", width=0.003
    )


def _shape(x: Tensor) -> tuple[int, int, int, int]:
    """(B, C, H, W) of a frame's images."""
    if x.ndim != 4 or x.shape[1] not in (1, 3) or 0 in x.shape:
        raise ValueError(f"frames must hold images (B, C, H, W) with C = 1 or 3, got shape {tuple(x.shape)}")
    B, C, H, W = x.shape
    return B, C, H, W


def table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str, folded: str = "") -> None:
    """Show a table: the first cell of a row names it, the others are right-aligned. The caption says what is in it. With
    `folded`, only this line is seen, and the table after a click on it."""
    for row in rows:
        if len(row) != len(head):
            raise ValueError(f"rows must have {len(head)} cells each, one for each of head, got {list(row)}")

    def line(cells: Sequence[str], tags: Sequence[str]) -> str:
        aligned = [' style="text-align:left"', *[' style="text-align:right"'] * (len(head) - 1)]
        parts = zip(tags, aligned, cells, strict=True)
        return (
            f"<tr>{''.join(f'<{tag}{align}>{html.escape(cell)}</{tag.split()[0]}>' for tag, align, cell in parts)}</tr>"
        )

    top = line(head, ['th scope="col"'] * len(head))
    body = "".join(line(row, ['th scope="row"', *["td"] * (len(head) - 1)]) for row in rows)
    words = f'<caption style="text-align:left">{html.escape(caption)}</caption>'
    shown = f"<table>{words}<thead>{top}</thead><tbody>{body}</tbody></table>"
    display(HTML(f"<details><summary>{html.escape(folded)}</summary>{shown}</details>" if folded else shown))
