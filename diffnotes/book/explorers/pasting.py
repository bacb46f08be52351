"""The pasted Gaussian (chapter 22): one coordinate of a correlated pair is known, and what the replacement method makes of the
other, by an exact recursion."""

import ipywidgets as widgets
import numpy as np

from diffnotes.book.explorers.controls import check_range, float_slider, int_slider
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot
from diffnotes.book.proof import pasted as exact

EDGE, KNOWN = 3.0, 1.0
LINE = np.linspace(-EDGE, EDGE, 241)


def pasting(rho: float = 0.8, T: int = 250, repeats: int = 1) -> None:
    """Data N(0, [[1, rho], [rho, 1]]), the first coordinate known to be 1. Left an ellipse that holds 90 % of the data, and the
    line of what is known; right the second coordinate's true distribution in blue, and in orange that of the replacement
    method with exact denoiser (book, eq. 22.3), or of RePaint with so many repeats (book, eq. 22.4).

    rho: the correlation; T: steps of the cosine schedule; repeats: calls for each step."""
    build_pasting(rho, T, repeats).show()


def build_pasting(rho: float = 0.8, T: int = 250, repeats: int = 1) -> Explorer:
    """The explorer of `pasting`, not yet shown."""
    check_range({"rho": (rho, 0.0, 0.95), "T": (T, 10, 1000), "repeats": (repeats, 1, 20)})
    figure, (plane, line) = plots.subplots(1, 2, size=(8.2, 3.6))
    plane.set(
        xlim=(-EDGE, EDGE), ylim=(-EDGE, EDGE), aspect="equal", xlabel="known coordinate", ylabel="hidden coordinate"
    )
    plane.axvline(KNOWN, color="#8c8c8c", ls="--", lw=1.2)
    (ellipse,) = plane.plot([], [], color="#555555", lw=1.6)
    (at_truth,) = plane.plot([], [], color=plots.BLUE, lw=5, solid_capstyle="butt")
    (at_method,) = plane.plot([], [], color=plots.ORANGE, lw=5, solid_capstyle="butt")
    line.set(xlim=(-2, EDGE), ylim=(0, 1.45), xlabel="hidden coordinate", ylabel="density")
    (true,) = line.plot([], [], color=plots.BLUE, label="true")
    (made,) = line.plot([], [], color=plots.ORANGE, label="the method")
    line.legend(loc="upper left")
    plot = LivePlot(figure, [ellipse, at_truth, at_method, true, made])
    controls: dict[str, widgets.Widget] = {
        "rho": float_slider("ρ", rho, 0.0, 0.95, 0.05),
        "T": int_slider("T", T, 10, 1000, 10),
        "repeats": int_slider("repeats", repeats, 1, 20),
    }

    def update(rho: float, T: int, repeats: int) -> str:
        angle = np.linspace(0, 2 * np.pi, 121)
        circle = np.sqrt(2 * np.log(10)) * np.stack([np.cos(angle), np.sin(angle)])  # holds 90 %
        ellipse.set_data(circle[0], rho * circle[0] + np.sqrt(1 - rho**2) * circle[1])
        mean, variance = exact.pasted(rho, exact.cosine(T), repeats)
        for bar, curve, (m, v), aside in (
            (at_truth, true, exact.truth(rho), -0.06),
            (at_method, made, (mean, variance), 0.06),
        ):
            bar.set_data([KNOWN + aside] * 2, [m - v**0.5, m + v**0.5])
            curve.set_data(LINE, np.exp(-((LINE - m) ** 2) / (2 * v)) / np.sqrt(2 * np.pi * v))
        return reading(rho, T, repeats, mean, variance)

    alt = (
        f"Left an ellipse of data with correlation {rho:g}, crossed by the line of the known value 1; right two bells: the true "
        "distribution of the hidden coordinate in blue, and the method's in orange."
    )
    return Explorer("The pasted Gaussian", controls, plot, update, alt)


def reading(rho: float, T: int, repeats: int, mean: float, variance: float) -> str:
    """What the two bells are, in numbers."""
    (m, v), (m_limit, v_limit) = exact.truth(rho), exact.limit(rho)
    text = (
        f"Mean: true {m:.3f}, method {mean:.3f}. Variance: true {v:.3f}, method {variance:.3f}. {T * repeats:,} calls of the "
        "denoiser."
    )
    if repeats == 1:
        return f"{text} With infinitely many steps the method tends to mean {m_limit:.3f} and variance {v_limit:.3f}."
    return text
