"""Which variance (chapter 12): for Gaussian data and a chain of strides, three variances, and what each costs."""

import math

import ipywidgets as widgets
from torch import Tensor

from diffnotes.book.explorers.controls import check_range, float_slider, int_slider
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot
from diffnotes.process.schedules import Schedule
from diffnotes.process.variance import extra_kl, learned_range, optimal_variance, stride

SCHEDULE = Schedule.cosine()
LOOKS = {
    "best": (plots.BLACK, "-"),
    "β'": (plots.ORANGE, "--"),
    "β̃'": (plots.BLUE, "--"),
    "learned, ν": (plots.GREEN, "-"),
}
LOWEST = 1e-8  # of the right picture


def variances(s: float = 0.3, steps: int = 25, nu: float = 0.5) -> None:
    """For data N(0, s^2), the best denoiser and a chain of `steps` even strides: the best variance of each stride between the two
    simple ones, and one that stands at the share nu between them on the logarithmic scale (book, eq. 12.7); beside it what each
    costs more than the best (book, eq. 12.5). Sliders for s in 0.02..2, steps in 5..200, nu in 0..1."""
    build_variances(s, steps, nu).show()


def build_variances(s: float = 0.3, steps: int = 25, nu: float = 0.5) -> Explorer:
    """The explorer of `variances`, not yet shown."""
    check_range({"s": (s, 0.02, 2), "steps": (steps, 5, 200), "nu": (nu, 0, 1)})
    figure, (left, right) = plots.subplots(1, 2, size=(8.2, 3.4))
    curves = {}
    for name, (colour, style) in LOOKS.items():
        curves[name] = left.plot([], [], color=colour, ls=style, label=name, lw=1.8)[0]
    costs = {name: right.plot([], [], color=LOOKS[name][0], ls=LOOKS[name][1])[0] for name in list(LOOKS)[1:]}
    left.set(xscale="log", xlim=(4, 1100), ylim=(0, 1.6), xlabel="t, where the stride begins", title="variance / β'")
    left.legend(loc="lower right", fontsize=8)
    right.set(xscale="log", yscale="log", xlim=(4, 1100), ylim=(LOWEST, 20), xlabel="t, where the stride begins")
    right.set_title("costs more than the best, nats per pixel")
    plot = LivePlot(figure, [*curves.values(), *costs.values()])
    controls: dict[str, widgets.Widget] = {
        "s": float_slider("s", s, 0.02, 2, 0.02),
        "steps": int_slider("steps", steps, 5, 200, 5),
        "nu": float_slider("ν", nu, 0, 1, 0.05),
    }

    def update(s: float, steps: int, nu: float) -> str:
        t, found = table(s, steps, nu)
        for name, curve in curves.items():
            curve.set_data(t, found[name] / found["β'"])
        sums = {}
        for name, curve in costs.items():
            extra = extra_kl(found["best"], found[name])
            curve.set_data(t, extra.clamp(min=LOWEST))
            sums[name] = extra.sum().item() / math.log(2)
        words = ", ".join(f"{name} {bits if bits > 1e-9 else 0:.3g}" for name, bits in sums.items())
        return f"{steps} strides, s = {s:.2f}: all of them together cost more than the best, in bits per dimension: {words}."

    _, found = table(s, steps, nu)
    ratio = (found["best"] / found["β'"])[0].item()
    alt = (
        f"Left, over t on a logarithmic axis: the best variance of each stride, {ratio:.2g} of β' at the first, lies between β̃' "
        "below and β' above, and all meet at large t. Right: what β', β̃' and the learned variance cost more than the best."
    )
    return Explorer("Which variance?", controls, plot, update, alt)


def table(s: float, steps: int, nu: float) -> tuple[Tensor, dict[str, Tensor]]:
    """The times at which the strides begin, but for the last one, and four variances at each."""
    tau = SCHEDULE.subsequence(steps)
    t, before = tau[2:], tau[1:-1]
    bar = SCHEDULE.alpha_bar[t]
    beta, beta_tilde, _ = stride(SCHEDULE, t, before)
    mse = s**2 * (1 - bar) / (bar * s**2 + 1 - bar)  # of the best denoiser
    best = optimal_variance(SCHEDULE, mse, t, before)
    return t, dict(zip(LOOKS, (best, beta, beta_tilde, learned_range(SCHEDULE, nu, t, before)), strict=True))
