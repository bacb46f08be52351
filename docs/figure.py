"""What a browser needs to draw an explorer's figure: its axes, and what is drawn in them, read from the notebook's own matplotlib
figure. So colours, axes, labels and legends are typed once, in the explorer."""

import base64
import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, Rectangle, StepPatch
from matplotlib.path import Path
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

PIXELS = 100 / 72  # of the figure in a point
PLACES = {1: "upper right", 2: "upper left", 3: "lower left", 4: "lower right", 8: "lower center", 9: "upper center"}
TEX = re.compile(r"(\\[A-Za-z]+)|\\([,;! ])|([_^])\{([^}]*)\}|([_^])(\\[a-z]+|.)|([A-Za-z])|([^{}])")
Run = tuple[str, str]  # words, and how they are set: "" upright, "i" italic, "b" bold, "_" below the line, "^" above it


def describe(plot: Any) -> dict[str, Any]:
    """The figure of a LivePlot as JSON: pixels at 100 a inch, from the upper left. `moving` are the artists whose data change, in
    their order; `still` the others, with their data."""
    figure = plot.figure
    width, height = figure.get_size_inches() * 100
    axes = list(figure.axes)
    moving = list(plot.artists)
    still = [artist for ax in axes for artist in _children(ax) if artist not in moving]
    return {
        "width": round(float(width)),
        "height": round(float(height)),
        "axes": [_axes(ax, width, height, moving) for ax in axes],
        "legend": [entry for legend in figure.legends for entry in _entries(legend)],
        "still": [look(artist, axes) | {"data": _still(artist)} for artist in still if artist.get_visible()],
        "moving": [look(artist, axes) for artist in moving],
    }


def _children(ax: Any) -> list[Any]:
    """What was put into the axes."""
    found = [*ax.images, *ax.collections, *ax.patches, *ax.lines, *ax.texts]
    return sorted(found, key=lambda artist: artist.get_zorder())


def _axes(ax: Any, width: float, height: float, moving: Sequence[Any]) -> dict[str, Any]:
    box = ax.get_position()
    legend = ax.get_legend()
    shown = ax.axison
    return {
        "box": [round(v, 1) for v in (box.x0 * width, (1 - box.y1) * height, box.width * width, box.height * height)],
        "x": _axis(ax.xaxis, ax.get_xlim(), ax.get_xscale()),
        "y": _axis(ax.yaxis, ax.get_ylim(), ax.get_yscale()),
        "title": []
        if any(map(_is_title, (a for a in moving if a.axes is ax)))
        else runs(ax.get_title("left") or ax.get_title()),
        "equal": ax.get_aspect() != "auto",
        "off": not shown,
        "frame": bool(ax.spines["top"].get_visible()),
        "legend": None
        if legend is None
        else {"place": PLACES[legend._get_loc()], "columns": legend._ncols, "entries": _entries(legend)},
    }


def _axis(axis: Any, limits: tuple[float, float], scale: str) -> dict[str, Any]:
    """Limits, scale, name, ticks as [place, words], and whether the notebook writes the words (shared axes do so once)."""
    low, high = sorted(limits)
    beyond = 1e-9 * (high - low)  # of rounding
    places = [float(place) for place in axis.get_majorticklocs()]
    ticks = zip(places, axis.get_major_formatter().format_ticks(places), strict=True)
    first = axis.get_major_ticks()
    return {
        "limits": [float(limit) for limit in limits],
        "log": scale == "log",
        "name": runs(axis.get_label().get_text()),
        "ticks": [[place, runs(text)] for place, text in ticks if low - beyond <= place <= high + beyond],
        "written": bool(first and first[0].label1.get_visible()),
        "grid": any(line.get_visible() for line in axis.get_gridlines()),
    }


def _entries(legend: Any) -> list[dict[str, Any]]:
    handles, texts = legend.legend_handles, legend.get_texts()
    return [{"look": look(handle), "words": runs(text.get_text())} for handle, text in zip(handles, texts, strict=True)]


# -- how an artist looks --------------------------------------------------------------------------------------------------


def look(artist: Any, axes: Any = ()) -> dict[str, Any]:
    """How an artist is drawn, by its kind; ValueError for one that the pages cannot draw."""
    common: dict[str, Any] = {"axes": axes.index(artist.axes)} if len(axes) else {}
    if isinstance(artist, Line2D):
        at = artist.get_transform()
        across = artist.axes is not None and at == artist.axes.get_xaxis_transform()  # axvline: y in shares of the axes
        along = artist.axes is not None and at == artist.axes.get_yaxis_transform()
        marker, dashes = artist.get_marker(), artist.get_linestyle()
        return common | {
            "kind": "line",
            "colour": to_hex(artist.get_color()),
            "width": 0 if dashes in ("None", "") else artist.get_linewidth() * PIXELS,
            "dashes": dashes,
            "marker": None if marker in ("None", "", None) else marker,
            "size": artist.get_markersize() * PIXELS,
            "edge": to_hex(artist.get_markeredgecolor()),
            "clip": bool(artist.get_clip_on()),
            "alpha": artist.get_alpha() or 1,
            "shares": "y" if across else "x" if along else "",
        }
    if isinstance(artist, LineCollection):
        return common | {
            "kind": "segments",
            "colour": to_hex(artist.get_colors()[0]),
            "width": float(artist.get_linewidths()[0]) * PIXELS,
        }
    if isinstance(artist, PolyCollection):
        return common | {
            "kind": "area",
            "colour": to_hex(artist.get_facecolor()[0]),
            "alpha": float(artist.get_facecolor()[0][3]),
        }
    if isinstance(artist, StepPatch):
        return common | {
            "kind": "steps",
            "colour": to_hex(artist.get_facecolor()),
            "alpha": artist.get_alpha() or 1,
            "sideways": artist.orientation == "horizontal",
        }
    if isinstance(artist, AxesImage):
        shades = artist.get_cmap()(np.linspace(0, 1, 256))[:, 0]
        return common | {
            "kind": "image",
            "extent": [float(v) for v in artist.get_extent()],
            "limits": [float(v) for v in artist.get_clim()],
            "shades": [round(float(v), 4) for v in shades],
            "ink": bool(shades[0] > shades[-1]),  # dark on light: light on dark where the page is dark
            "upright": artist.origin == "lower",
        }
    if _is_title(artist):
        return common | {"kind": "title"}
    if isinstance(artist, Text):
        return common | {
            "kind": "text",
            "words": runs(artist.get_text()),
            "colour": to_hex(artist.get_color()),
            "size": artist.get_fontsize() * PIXELS,
            "anchor": {"left": "start", "center": "middle", "right": "end"}[artist.get_ha()],
        }
    if isinstance(artist, PathCollection):
        return common | {
            "kind": "discs",
            "colour": to_hex(artist.get_facecolor()[0]),
            "edge": to_hex(artist.get_edgecolor()[0]),
            "size": float(np.sqrt(artist.get_sizes()[0])) * PIXELS,
        }
    if isinstance(artist, FancyArrowPatch):
        return common | {
            "kind": "arrow",
            "colour": to_hex(artist.get_edgecolor()),
            "width": artist.get_linewidth() * PIXELS,
            "dashes": artist.get_linestyle(),
        }
    if isinstance(artist, Rectangle):
        return common | {
            "kind": "area",
            "colour": to_hex(artist.get_facecolor()),
            "alpha": float(artist.get_facecolor()[3]),
        }
    raise ValueError(f"artist must be one that the pages can draw (docs/figure.py), got {type(artist).__name__}")


def data(artist: Any) -> dict[str, Any]:
    """What an artist shows, in the same form as the JavaScript of an explorer gives it."""
    if isinstance(artist, Line2D):
        x, y = artist.get_data()
        return {"x": _numbers(x), "y": _numbers(y)}
    if isinstance(artist, LineCollection):
        return {"lines": [_numbers(line) for line in artist.get_segments()]}
    if isinstance(artist, PolyCollection):
        corners = np.concatenate([path.vertices for path in artist.get_paths()])
        return {"corners": _numbers(corners[:-1] if (corners[0] == corners[-1]).all() else corners)}
    if isinstance(artist, StepPatch):
        values, edges, _ = artist.get_data()
        return {"values": _numbers(values), "edges": _numbers(edges)}
    if isinstance(artist, AxesImage):
        values = np.asarray(artist.get_array())
        return {"rows": values.shape[0], "columns": values.shape[1], "values": _numbers(values.ravel())}
    if _is_title(artist):
        return {"words": runs(artist.get_text())}
    if isinstance(artist, Text):
        return {"x": float(artist.get_position()[0]), "y": float(artist.get_position()[1])}
    if isinstance(artist, PathCollection):
        return {"x": _numbers(artist.get_offsets()[:, 0]), "y": _numbers(artist.get_offsets()[:, 1])}
    if isinstance(artist, FancyArrowPatch):
        return {"parts": _arrow(artist)}
    if isinstance(artist, Rectangle):
        (x0, y0), (x1, y1) = Bbox.from_bounds(*artist.get_xy(), artist.get_width(), artist.get_height()).get_points()
        return {"corners": [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]}
    raise ValueError(f"artist must be one that the pages can draw (docs/figure.py), got {type(artist).__name__}")


def _still(artist: Any) -> dict[str, Any]:
    """What an artist shows that does not change: numbers of six digits, and images as PNG, in which ink is black and paper
    nothing."""
    if not isinstance(artist, AxesImage):
        return {key: _short(value) for key, value in data(artist).items()}
    shades = artist.to_rgba(artist.get_array(), bytes=True)[:: -1 if artist.origin == "lower" else 1, :, 0]
    ink = np.dstack([np.zeros_like(shades), 255 - shades])
    buffer = io.BytesIO()
    Image.fromarray(ink, "LA").save(buffer, "png", optimize=True)
    return {"href": f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"}


def _short(value: Any) -> Any:
    if isinstance(value, list):
        return [_short(part) for part in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _arrow(arrow: FancyArrowPatch) -> list[dict[str, Any]]:
    """The stroke and the head of an arrow: SVG's letters, each with its points in the axes' units."""
    paths, filled = arrow._get_path_in_displaycoord()  # type: ignore[attr-defined]
    letters = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C", Path.CLOSEPOLY: "Z"}
    back = arrow.axes.transData.inverted()  # type: ignore[union-attr]
    return [
        {
            "head": bool(fill),
            "path": [
                [letters[code], [] if code == Path.CLOSEPOLY else _numbers(back.transform(points.reshape(-1, 2)))]
                for points, code in path.iter_segments(simplify=False, curves=True)
            ],
        }
        for path, fill in zip(paths, filled, strict=True)
    ]


def _numbers(values: Any) -> Any:
    """Nested lists; None where there is no number, a gap in a line."""
    array = np.asarray(values, dtype=float)
    return np.where(np.isfinite(array), array, None).tolist()


def _is_title(artist: Any) -> bool:
    """Whether it is the title of its axes."""
    return isinstance(artist, Text) and artist in (artist.axes.title, artist.axes._left_title)


# -- words ----------------------------------------------------------------------------------------------------------------


def runs(text: str) -> list[Run]:
    """Words with the little TeX that the explorers' labels have, as runs of one style each."""
    found: list[Run] = []
    for i, part in enumerate(text.split("$")):
        found += _tex(part) if i % 2 else _plain(part)
    return found


def _plain(words: str) -> list[Run]:
    """Words, in which β_t and D_KL have a small letter or two below the line."""
    parts = enumerate(re.split(r"_(KL|\w)", words))
    return [(part, "_" if i % 2 else "") for i, part in parts if part]


def _tex(formula: str) -> list[Run]:
    found, bold = [], False
    for command, space, mark, braced, other_mark, single, letter, sign in TEX.findall(formula):
        if command == r"\mathbf":
            bold = True
            continue
        if mark or other_mark:
            small = NAMES.get(single) or re.sub(r"\\[a-z]+ ?", "", braced or single).replace("-", "−")
            found.append((small, mark or other_mark))
        elif command in NAMES:
            found.append((NAMES[command], "i"))
        elif command and command not in (r"\mathdefault", r"\rm"):
            found.append((command[1:], ""))
        elif space == ",":
            found.append(("\u2009", ""))
        elif letter:
            found.append((letter, "b" if bold else "i"))
        elif sign.strip():
            found.append((SIGNS.get(sign, sign), ""))
        bold = bold and not (letter or command)
    return found


SIGNS = {"-": "−", "=": " = ", ",": ",\u2009"}
NAMES = {r"\phi": "φ", r"\theta": "θ"}
