"""The weight of the squared error at time t in the bound and in the simple loss, for each prediction target (chapter 4)."""

import ipywidgets as widgets
import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffnotes.book.explorers.controls import check_range, dropdown, int_slider
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot
from diffnotes.process.elbo import model_variance
from diffnotes.process.losses import bound_weight
from diffnotes.process.parameterize import v_from_x0_eps, x0_and_eps
from diffnotes.process.schedules import Schedule

T = 1000
LETTERS = {"eps": "ε", "x0": "x_0", "v": "v"}
LABELS = LETTERS | {"x0": "$x_0$"}
TITLES = ("factor before the squared error in {}", "an error of 1 in {} is ...")
VARIANCES = {"beta": "β_t", "beta_tilde": "β̃_t"}


def weights(t: int = 349) -> None:
    """Explore the weight of the squared error in the bound and in L_simple: menus for the schedule, the prediction target and
    the bound's sigma_t^2, a slider for t in 1..1000; and what an error at t is when converted to the other targets."""
    build_weights(t).show()


def build_weights(t: int = 349) -> Explorer:
    """The explorer of `weights`, not yet shown."""
    check_range({"t": (t, 1, T)})
    schedules, times = {"linear": Schedule.linear(T), "cosine": Schedule.cosine(T)}, torch.arange(1, T + 1)
    figure, (factor_ax, error_ax) = plots.subplots(1, 2, size=(7.4, 3.3))
    looks = ((plots.BLUE, "-", "the bound"), (plots.ORANGE, "--", r"$L_{\rm simple}$"))
    curves = [factor_ax.plot([], [], color=colour, ls=style, label=name)[0] for colour, style, name in looks]
    factor_ax.set(yscale="log", ylim=(1e-9, 1e6))
    factor_ax.legend(loc="upper right")
    rates = ((plots.BLACK, "-", "in ε"), (plots.GREEN, "--", "in $x_0$"), (plots.PURPLE, ":", "in v"))
    curves += [error_ax.plot([], [], color=colour, ls=style, label=name)[0] for colour, style, name in rates]
    error_ax.set(yscale="log", ylim=(1e-5, 1e5))
    error_ax.legend(loc="upper left")
    dots = [curve.axes.plot([], [], "o", ms=6, color=curve.get_color())[0] for curve in curves]
    # not snapped to whole pixels: a step of t is a third of one, and is to be seen
    markers = [ax.axvline(t, color=plots.RED, lw=1.4, snap=False) for ax in (factor_ax, error_ax)]
    for ax in (factor_ax, error_ax):
        ax.set(xlim=(-0.02 * T, 1.02 * T), xlabel="t")
    titles = [ax.set_title(words.format(LABELS["x0"])) for ax, words in zip((factor_ax, error_ax), TITLES, strict=True)]
    plot = LivePlot(figure, [*markers, *curves, *dots, *titles])
    controls: dict[str, widgets.Widget] = {
        "kind": dropdown("kind", list(schedules)),
        "target": dropdown("target", [("the noise ε", "eps"), ("the image x_0", "x0"), ("v", "v")], value="x0"),
        "variance": dropdown("σ_t²", [(words, name) for name, words in VARIANCES.items()]),
        "t": int_slider("t", t, 1, T),
    }

    def update(kind: str, target: str, variance: str, t: int) -> str:
        schedule = schedules[kind]
        bound, simple = factors(schedule, target, variance, times)
        errors = one_error(schedule, target, times)
        for curve, dot, values in zip(curves, dots, (bound, simple, *errors.values()), strict=True):
            curve.set_data(times.numpy(), values.numpy())
            dot.set_data([t], [values[t - 1].item()])
        for marker in markers:
            marker.set_xdata([t, t])
        for title, words in zip(titles, TITLES, strict=True):
            title.set_text(words.format(LABELS[target]))
        return _reading(schedule, target, variance, t, bound, simple)

    noise, v = (one_error(schedules["linear"], "x0", torch.tensor([t]))[name].item() for name in ("eps", "v"))
    alt = (
        "Left, over t on a logarithmic axis, for the linear schedule: the factors before the squared error in the image; the "
        "bound's falls from 5,000 to less than a millionth, that of L_simple from 10,000 to 0.00004. Right: what an error of 1 "
        f"in the image is in the noise, 100 to 0.006, and in v, 100 to 1; at t = {t} it is {noise:.3g} in the noise and "
        f"{v:.3g} in v."
    )
    return Explorer(
        "The weight of an error over time, in the bound and in the simple loss", controls, plot, update, alt
    )


def one_error(schedule: Schedule, target: str, t: Int[Tensor, "times"]) -> dict[str, Float[Tensor, "times"]]:
    """How large an error of 1 in a prediction of this target is when converted to each target, at the times t: absolute
    values, float64 (book, eq. 4.5 and 4.7). x_t is known, so errors convert as predictions do, with 0 for x_t."""
    one = torch.ones(len(t), 1, dtype=torch.float64)
    x0, eps = x0_and_eps(schedule, target, one, torch.zeros_like(one), t)
    errors = {"eps": eps, "x0": x0, "v": v_from_x0_eps(schedule, x0, eps, t)}
    return {name: error[:, 0].abs() for name, error in errors.items()}


def factors(
    schedule: Schedule, target: str, variance: str, t: Int[Tensor, "times"]
) -> tuple[Float[Tensor, "times"], Float[Tensor, "times"]]:
    """The weights that the bound, with sigma_t^2 = `variance` (see model_variance), and L_simple give to the squared error of
    a prediction of this target: w_t and 1 for the error in the noise (book, eq. 4.12 and 4.11), converted by one_error."""
    in_noise = one_error(schedule, target, t)["eps"] ** 2
    w = bound_weight(schedule, t) * schedule.beta[t] / model_variance(schedule, variance)[t]
    return w * in_noise, in_noise


def _reading(schedule: Schedule, target: str, variance: str, t: int, bound: Tensor, simple: Tensor) -> str:
    def said(curve: Tensor) -> str:
        now, first = curve[t - 1].item(), curve[0].item()
        ratio = f"{now / first:.2g}" if now < first else f"{now / first:.0f}"
        return f"{now:.3g}" if t == 1 else f"{now:.3g} ({ratio} times its factor at t = 1)"

    sigma2 = "β̃_2, since β̃_1 = 0" if t == 1 and variance == "beta_tilde" else VARIANCES[variance]
    equal = f"{simple[t - 1].item():.3g}, as at every t" if target == "eps" else said(simple)
    errors = one_error(schedule, target, torch.tensor([t]))
    others = " and ".join(f"{errors[name].item():.3g} in {LETTERS[name]}" for name in LETTERS if name != target)
    reading = (
        f"t = {t}, {schedule.name}: before the squared error in {LETTERS[target]} the bound, with σ_t² = {sigma2}, puts "
        f"{said(bound)}; L_simple puts {equal}.<br>An error of 1 in {LETTERS[target]} is an error of {others}."
    )
    if target != "x0" or variance != "beta_tilde" or t == 1:
        return reading
    before, now = schedule.snr[t - 1].item(), schedule.snr[t].item()
    return f"{reading} The bound's factor is half of SNR({t - 1}) - SNR({t}) = {before:.4g} - {now:.4g}."
