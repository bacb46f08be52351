"""The same noise in the code and in the pixels (chapter 18)."""

import ipywidgets as widgets
import torch
from torch import Tensor

from diffnotes.book.explorers.controls import check_images, check_range, int_slider
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot
from diffnotes.process.forward import q_sample
from diffnotes.process.samplers import initial_noise
from diffnotes.training.pretrained import load_latent

MOST = 20


def two_noises(x: Tensor, t: int = 300, image: int = 0, draw: int = 0) -> None:
    """An image of x (N, 1, 28, 28), its code, and both at time t of one schedule: the noisy code decoded, and noisy pixels.

    t: a slider 0..1000 for the time; image: a slider for which image; draw: a slider for the random numbers."""
    build_two_noises(x, t, image, draw).show()


def build_two_noises(x: Tensor, t: int = 300, image: int = 0, draw: int = 0) -> Explorer:
    """The explorer of `two_noises`, not yet shown."""
    check_images("x", x)
    autoencoder, latents, _, schedule = load_latent()
    most = min(len(x), MOST) - 1
    check_range({"t": (t, 0, schedule.T), "image": (image, 0, most), "draw": (draw, 0, 20)})
    with torch.no_grad():
        codes = latents.into(autoencoder.encode(x[: most + 1])[0])
    figure, axes = plots.subplots(1, 5, size=(10.4, 2.5))
    titles = ("image", "its code, 4 × 7 × 7", "the code with noise", "… decoded", "pixels with noise")
    pictures = []
    for place, (ax, title) in enumerate(zip(axes, titles, strict=True)):
        of_code = place in (1, 2)
        side, limit = (16, 2.5) if of_code else (28, 1.0)
        cmap = "RdBu_r" if of_code else "gray"
        pictures.append(ax.imshow(torch.zeros(side, side).numpy(), cmap=cmap, vmin=-limit, vmax=limit))
        ax.set(title=title, xticks=[], yticks=[])
        ax.set_axis_off()
    plot = LivePlot(figure, pictures)
    controls: dict[str, widgets.Widget] = {
        "t": int_slider("time t", t, 0, schedule.T, 10),
        "image": int_slider("image", image, 0, most),
        "draw": int_slider("draw", draw, 0, 20),
    }

    def update(t: int, image: int, draw: int) -> str:
        one, code = x[image : image + 1], codes[image : image + 1]
        noisy_code = q_sample(schedule, code, t, initial_noise(draw, 1, tuple(code.shape[1:])))
        noisy = q_sample(schedule, one, t, initial_noise(draw, 1, tuple(one.shape[1:])))
        with torch.no_grad():
            decoded = autoencoder.decode(latents.back(noisy_code))
        shown = (one[0, 0], board(code[0]), board(noisy_code[0]), decoded[0, 0], noisy[0, 0])
        for picture, values in zip(pictures, shown, strict=True):
            picture.set_data(values.numpy())
        errors = [(other - one).square().mean().item() for other in (decoded, noisy)]
        abar = float(schedule.alpha_bar[t])
        return (
            f"t = {t}: signal {abar**0.5:.2f}, noise {(1 - abar) ** 0.5:.2f}, in both. Squared error of a pixel: "
            f"{errors[0]:.3f} decoded from the noisy code, {errors[1]:.3f} in the noisy pixels."
        )

    alt = (
        f"A digit; its code as four small coloured maps; the same with noise at t = {t}; the noisy code decoded, a shape with "
        "clean strokes; and the digit under grey noise."
    )
    return Explorer("Noise in the code, noise in the pixels", controls, plot, update, alt)


def board(code: Tensor) -> Tensor:
    """The channels of a code (4, 7, 7) as one picture (16, 16), two by two, with gaps of zeros."""
    rows, columns = code.shape[1] + 1, code.shape[2] + 1
    picture = torch.zeros(2 * rows, 2 * columns)
    for k, channel in enumerate(code[:4]):
        i, j = rows * (k // 2), columns * (k % 2)
        picture[i : i + rows - 1, j : j + columns - 1] = channel
    return picture
