"""A flow of coupling layers at work (chapter 15): points of the plane and a grid, bent layer by layer into a normal cloud."""

import ipywidgets as widgets
import numpy as np
import torch
from torch import Tensor

from diffnotes.book.explorers.controls import int_slider
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot
from diffnotes.models.coupling import RealNVP

EDGE = 4.0  # of the picture
GRID, FINE = 13, 121  # lines of the grid in each direction, and points of a line


def coupling(model: RealNVP, x: Tensor, y: Tensor, layers: int = 2) -> None:
    """A slider over the layers of a RealNVP on points of the plane: where the points x (N, 2), drawn in two colours by y, and the
    lines of a square grid are after so many layers; 0: the data, each coordinate scaled to standard deviation 1."""
    build_coupling(model, x, y, layers).show()


def build_coupling(model: RealNVP, x: Tensor, y: Tensor, layers: int = 2) -> Explorer:
    """The explorer of `coupling`, not yet shown."""
    if not isinstance(model, RealNVP) or model.shape != (2,):
        raise ValueError(f"model must be a RealNVP of shape (2,), got {getattr(model, 'shape', type(model).__name__)}")
    if x.ndim != 2 or x.shape[1] != 2 or y.shape != x.shape[:1]:
        raise ValueError(f"x and y must have shapes (N, 2) and (N,), got {tuple(x.shape)} and {tuple(y.shape)}")
    most = len(model.layers)
    if not 0 <= layers <= most:
        raise ValueError(f"layers must lie in 0..{most}, got {layers}")
    points, log_dets = states(model, x)
    lines = [grid.reshape(2 * GRID, FINE, 2) for grid in states(model, grid_lines(model), scaled=False)[0]]
    figure, ax = plots.subplots(size=(4.6, 4.6))
    ax.set(
        xlim=(-EDGE, EDGE), ylim=(-EDGE, EDGE), aspect="equal", xlabel="first coordinate", ylabel="second coordinate"
    )
    (mesh,) = ax.plot([], [], color="#b5b5b5", lw=0.8)
    clouds = [ax.plot([], [], ls="", marker="o", ms=2, color=colour)[0] for colour in (plots.BLUE, plots.ORANGE)]
    plot = LivePlot(figure, [mesh, *clouds])
    controls: dict[str, widgets.Widget] = {"layers": int_slider("layers", layers, 0, most)}

    def update(layers: int) -> str:
        broken = np.concatenate([lines[layers], np.full((2 * GRID, 1, 2), np.nan)], axis=1)
        mesh.set_data(*broken.reshape(-1, 2).T)
        for label, cloud in enumerate(clouds):
            cloud.set_data(*points[layers][(y == label).numpy()].T)
        here, which = points[layers], "after 0 layers, the data" if layers == 0 else f"after {layers} of {most} layers"
        square = (here**2).mean()
        return (
            f"{which[0].upper()}{which[1:]}: mean square of a coordinate {square:.2f} (standard normal: 1), fourth moment "
            f"{(here**4).mean():.2f} (3). Mean of the log-determinants so far: {log_dets[layers]:.2f} nats a point."
        )

    alt = f"Points of two moons in two colours on a square grid, both bent by {layers} of {most} coupling layers."
    return Explorer("From two moons to a normal cloud", controls, plot, update, alt)


def states(model: RealNVP, x: Tensor, scaled: bool = True) -> tuple[list[np.ndarray], list[float]]:
    """The points after 0, 1, ... layers, and the mean of the log-determinants of the layers up to there. scaled: by the model's
    own scales first."""
    h, total = ((x - model.shift) / model.scale if scaled else x), torch.zeros(len(x))
    points, log_dets = [h.numpy()], [0.0]
    with torch.no_grad():
        for layer in model.layers:
            h, more = layer(h, None)
            total = total + more
            points.append(h.numpy())
            log_dets.append(float(total.mean()))
    return points, log_dets


def grid_lines(model: RealNVP) -> Tensor:
    """The points of the grid's lines on the scaled data, (2 GRID FINE, 2): those along the first coordinate, then the others."""
    places, fine = torch.linspace(-2.4, 2.4, GRID), torch.linspace(-2.4, 2.4, FINE)
    across = torch.stack([fine.repeat(GRID), places.repeat_interleave(FINE)], dim=1)
    return torch.cat([across, across.flip(1)]).to(model.scale)
