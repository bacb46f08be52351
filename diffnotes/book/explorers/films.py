"""A slider over pictures that are already drawn: films of samples, and the way to the noise and back."""

from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets as widgets
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diffnotes.book.explorers.controls import LOOK, check_images, dropdown, enlargement, int_slider
from diffnotes.book.explorers.guidance import spread
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePicture, LivePlot
from diffnotes.process.samplers import Frame
from diffnotes.training.grid import grid_image

GAP = 2  # between images in a row, in their own pixels


def pictures(title: str, name: str, choices: Sequence[tuple[str, Image.Image]], alt: str, start: int = 0) -> None:
    """A slider, called `name`, over (reading, picture) pairs; all pictures of one size. It begins at number `start`."""
    build_pictures(title, name, choices, alt, start).show()


def build_pictures(title: str, name: str, choices: Sequence[tuple[str, Image.Image]], alt: str, start: int) -> Explorer:
    """The explorer of `pictures`, not yet shown."""
    if not choices:
        raise ValueError("choices must hold at least one (reading, picture) pair, got none")
    live = LivePicture(choices[0][1].width)
    slider = int_slider(name, start, 0, len(choices) - 1, readout=False)

    def update(number: int) -> str:
        reading, live.current = choices[number]
        return reading

    return Explorer(title, {"number": slider}, live, update, alt)


# -- films of samples ---------------------------------------------------------------------------------------------------


def film(
    frames: Sequence[Frame] | Mapping[str, Sequence[Frame]],
    columns: int = 4,
    start: int | None = None,
    menu: str = "film",
    stations: Sequence[int] = (),
) -> None:
    """A slider over a sampler's frames: on the left the noisy x_t, on the right x0_hat, the model's estimate of x_0.

    Films of the same times, given by their names, also get a menu, called `menu`, that changes from one to another at the
    same t; the line below then says how much the pictures of a frame differ, so each frame holds two at least. `stations` are
    the numbers of the frames that readers without a kernel see, one above the other; without them, that at which the slider
    begins."""
    build_film(frames, columns, start, menu, stations).show()


def build_film(
    frames: Sequence[Frame] | Mapping[str, Sequence[Frame]],
    columns: int = 4,
    start: int | None = None,
    menu: str = "film",
    stations: Sequence[int] = (),
) -> Explorer:
    """The explorer of `film`, not yet shown."""
    several = isinstance(frames, Mapping)
    films = dict(frames) if isinstance(frames, Mapping) else {"": frames}
    if not films or not all(films.values()):
        raise ValueError("frames must hold at least one Frame in every film, got none")
    first_name, first = next(iter(films.items()))
    begin = len(first) // 2 if start is None else start
    for number in stations:
        if not 0 <= number < len(first):
            raise ValueError(f"stations must be numbers of frames, 0 to {len(first) - 1}, got {number}")
    controls: dict[str, widgets.Widget] = {"number": int_slider("time", begin, 0, len(first) - 1, readout=False)}
    x_t = check_images("frames", first[0].x_t)
    what = "digits" if tuple(x_t.shape[1:]) == (1, 28, 28) else "images"
    words = (
        f"Two grids of {len(x_t)} pictures. Left: x_t, noisy. Right: the model's estimate of the clean {what}. "
        f"The slider runs from pure noise to finished {what}."
    )
    if several:
        _check_films(films)
        controls = {"name": dropdown(menu, list(films)), **controls}
        words += f" A menu changes between {len(films)} films; here t = {first[begin].t}, {menu} {first_name}."
    sheets = {name: [_side_by_side(frame, columns) for frame in film] for name, film in films.items()}
    live = LivePicture(sheets[first_name][0].width)

    def update(number: int, name: str = first_name) -> str:
        live.current, frame = sheets[name][number], films[name][number]
        grids = "on the left x_t, on the right the model's estimate of x_0."
        if not several:
            return f"t = {frame.t}: {grids}"
        return (
            f"t = {frame.t}, {menu} {name}: {grids}<br>Spread (standard deviation of a pixel over these {len(frame.x_t)} "
            f"pictures, grey values from -1 to 1): {spread(frame.x_t):.2g} in x_t, {spread(frame.x0_hat):.2g} in the estimates."
        )

    places = [{"number": number} for number in stations]
    return Explorer(f"From noise to {what}", controls, live, update, words, stations=places)


def _check_films(films: Mapping[str, Sequence[Frame]]) -> None:
    shapes = {name: {tuple(frame.x_t.shape) for frame in film} for name, film in films.items()}
    first, *others = films
    for name in others:
        if [frame.t for frame in films[name]] != [frame.t for frame in films[first]] or shapes[name] != shapes[first]:
            raise ValueError(
                f"frames must be films of the same times and pictures of the same shape, got {name!r} unlike {first!r}"
            )
    if any(shape[0] < 2 for shape in shapes[first]):
        raise ValueError("frames must show at least 2 pictures each, for their spread to be read, got 1")


def _side_by_side(frame: Frame, columns: int) -> Image.Image:
    """x_t on the left and x0_hat on the right, as two grids."""
    scale = enlargement(frame.x_t.shape[-1], 60)
    left, right = (grid_image(x, columns, scale) for x in (frame.x_t, frame.x0_hat))
    sheet = Image.new(left.mode, (left.width + right.width + 24, left.height), "white")
    sheet.paste(left, (0, 0))
    sheet.paste(right, (left.width + 24, 0))
    return sheet


# -- to the noise and back -----------------------------------------------------------------------------------------------


def round_trip(images: Tensor, trips: Mapping[int, tuple[Tensor, Tensor]]) -> None:
    """A slider over numbers of steps: images, the noise x_T that each is taken back to in so many steps of DDIM, what comes
    out of that noise in as many steps, and the difference of the two pictures.

    images: (B, C, H, W), values in [-1, 1]. trips: by number of steps (x_T, image after the round trip), each of the shape
    of images; two numbers of steps or more."""
    build_round_trip(images, trips).show()


def build_round_trip(images: Tensor, trips: Mapping[int, tuple[Tensor, Tensor]]) -> Explorer:
    """The explorer of `round_trip`, not yet shown."""
    check_images("images", images)
    if len(trips) < 2:
        raise ValueError(f"trips must hold at least 2 numbers of steps, got {len(trips)}")
    for steps, trip in trips.items():
        if any(x.shape != images.shape for x in trip):
            shapes = " and ".join(str(tuple(x.shape)) for x in trip)
            raise ValueError(f"trips must hold pictures of shape {tuple(images.shape)}, got {shapes} for {steps} steps")
    figure, ax = plots.subplots(size=(6.4, 2.9))
    sheet = image_rows(ax, ["the image", "its noise, x_T", "back again", "difference"], images)
    plot = LivePlot(figure, [sheet])
    numbers = sorted(trips)
    slider = widgets.SelectionSlider(options=numbers, description="steps", **LOOK)

    def update(steps: int) -> str:
        noise, back = trips[steps]
        sheet.set_data(stacked([images, noise, back, back - images]))
        error = (back - images).square().mean().item()
        return (
            f"{steps} steps up and {steps} down: the mean squared difference is {error:.2g}, its root {error**0.5:.2g} (grey "
            f"values from -1 to 1). The noise has variance {noise.var().item():.2f}; x_T should have 1."
        )

    alt = (
        f"Four rows of {len(images)} pictures: images; the noise that DDIM takes each back to in {numbers[0]} steps; what "
        "comes out of it again; and the difference of the two pictures, grey where there is none."
    )
    return Explorer("From the image to its noise and back", {"steps": slider}, plot, update, alt)


# -- rows of images in a figure -----------------------------------------------------------------------------------------


def image_rows(ax: Any, names: Sequence[str], like: Tensor) -> Any:
    """An artist in `ax` for rows of images such as `like` (B, C, H, W), one row for each of `names`, which stand at the
    left; set its data to what `stacked` makes of the rows."""
    one = stacked([like])
    rows = len(one)
    places = [(rows + GAP) * i + (rows - 1) / 2 for i in range(len(names))]
    ax.set(xticks=[], yticks=places, yticklabels=names)
    ax.tick_params(length=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    empty = np.full(((rows + GAP) * len(names) - GAP, *one.shape[1:]), 255, np.uint8)
    return ax.imshow(empty, cmap="gray", vmin=0, vmax=255, interpolation="nearest")


def stacked(rows: Sequence[Tensor]) -> np.ndarray:
    """Rows of images (B, C, H, W) in [-1, 1], one under the other, as one sheet of values 0..255, (H, W) or (H, W, 3)."""
    return np.asarray(grid_image(torch.cat(list(rows)), columns=len(rows[0]), scale=1, gap=GAP))
