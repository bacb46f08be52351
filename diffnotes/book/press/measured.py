"""What takes too long to measure in a notebook: read from the numbers of the benchmarks, which the repository keeps
and the wheel has too.

A chapter that shows such numbers says where they come from, and how to make them again.
"""

import itertools
import json
import math
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from diffnotes.book.live import plots
from diffnotes.book.press.scan import BOOK

TITLES = {
    "ours": "diffnotes, chapter 6",
    "ours_guided": "diffnotes, chapter 6, guided",
    "course": "diffusers, course",
    "ours_like_course": "diffnotes, laid out like the course",
    "large": "diffusers, 96 channels",
    "ours_like_large": "diffnotes, laid out like 96 channels",
    "ddpm_pytorch": "denoising-diffusion-pytorch",
    "course_our_recipe": "diffusers, course, in our recipe",
    "ours_no_labels": "diffnotes, without labels",
    "ours_clusters": "diffnotes, clusters for labels",
    "ours_clusters_guided": "diffnotes, clusters for labels, guided",
    "ours_eps_linear": "diffnotes, algorithm 1 (ε, linear)",
    "perfect": "MNIST itself",
}
CHOICES = {
    "base": "as it is",
    "base_seed_1": "as it is, another seed",
    "base_seed_2": "as it is, a third seed",
    "raw_weights": "sampled with the last weights, not with their average",
    "adamw": "AdamW in place of Muon",
    "independent_times": "independent times",
    "uniform_times": "uniform times, no weights",
    "min_snr": "uniform times with Min-SNR weights",
    "not_centred": "input not centred",
    "no_labels": "unconditional, without labels",
    "eps": "target ε in place of v",
    "linear": "linear schedule in place of cosine",
    "eps_linear": "ε and linear",
    "algorithm_1": "ε, linear, uniform times: algorithm 1",
    "batch_16": "16 images an update",
    "batch_64": "64 images an update",
    "no_attention": "without attention",
    "patch_1": "without patches of 2 × 2 pixels",
    "channels_24": "24 channels",
    "channels_48": "48 channels",
}
RELATIVES = {
    "ddpm": "DDPM",
    "ddim": "DDIM",
    "2m": "DPM-Solver++(2M)",
    "score_sde": "score SDE (VE)",
    "flow_matching": "flow matching, Euler",
    "realnvp": "RealNVP",
    "vae": "VAE, latent plane, no labels",
}
FAMILIES = {"unet": "U-Net", "adm": "U-Net as in ADM", "dit": "DiT"}
SIZES = ("small", "middle", "large")
ADDED = "unet middle, sum before the norm"
FRECHET = "Fréchet distance d² (lower is better)"  # (6.6), as FID without a root
PATH = BOOK / "docs" / "benchmarks" / "results.json"


def measured(section: str) -> dict[str, Any]:
    """The numbers of one section of the benchmarks. ValueError names the command that makes them, if they are not there."""
    return _section(section)["data"]


def provenance(section: str) -> str:
    """When, on which machine, with which torch and by which command the numbers of a section were measured."""
    entry = _section(section)
    machine = entry["machine"]
    processor = machine["gpu"] or f"{machine['cpu']} with {machine['cores']} cores"
    trial = "in a trial run, too short for the numbers to mean anything, " if entry["trial"] else ""
    return f"Measured {trial}on {machine['date']} on {processor}, with torch {machine['torch']}, by {entry['command']}."


def ablation_table(data: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table of chapter 6's run and its changes: measured("ablation"), written out."""
    head = ["chapter 6's run", "parameters", "updates", "images a second", "Fréchet d² ↓", "recognised ↑"]
    rows = []
    for name, words in CHOICES.items():
        if name in data["rows"]:
            row = data["rows"][name]
            quality = [with_error(row[key]) for key in ("frechet", "recognised")]
            rows.append(
                [words, f"{row['parameters']:,}", f"{row['updates']:,}", number(row["images_per_second"]), *quality]
            )
    perfect = [with_error(data["perfect"][key]) for key in ("frechet", "recognised")]
    return head, [*rows, [TITLES["perfect"], "", "", "", *perfect]]


def relatives_table(data: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table of the book's models, trained for the same time: measured("relatives"), written out."""
    head = [
        "model",
        "weights",
        "trained",
        "calls",
        "64 digits",
        "Fréchet d² ↓",
        "recognised ↑",
        "recall ↑",
        "bits/dim ↓",
    ]
    rows = []
    for name, words in RELATIVES.items():
        row = data["rows"][name]
        bits = (
            "–" if row["bits"] is None else f"{'≤ ' if row['bits']['kind'] == 'bound' else ''}{with_error(row['bits'])}"
        )
        times = [f"{row['training_seconds']:.0f} s", str(row["calls"]), f"{row['drawing_seconds']:.2f} s"]
        values = [with_error(row[key]) for key in ("frechet", "recognised", "recall")]
        rows.append([words, f"{row['parameters']:,}", *times, *values, bits])
    perfect = [with_error(data["perfect"][key]) for key in ("frechet", "recognised", "recall")]
    return head, [*rows, [TITLES["perfect"], "", "", "", "", *perfect, ""]]


def transformer_table(data: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table of U-Nets and transformers of three sizes: measured("transformers"), written out."""
    head = [
        "network",
        "weights",
        "MFLOP an image, trained",
        "updates",
        "seconds",
        "TFLOP in all",
        "error of v ↓",
        "Fréchet d² ↓",
        "recognised ↑",
    ]
    names = {f"{family} {size}": f"{words}, {size}" for family, words in FAMILIES.items() for size in SIZES}
    rows = []
    for name, words in {**names, ADDED: "U-Net, middle, sum before the norm"}.items():
        if name not in data["rows"]:
            continue
        row = data["rows"][name]
        values = [with_error(row[key]) for key in ("frechet", "recognised")]
        sizes = [
            f"{row['parameters']:,}",
            number(row["flops"] / 1e6),
            str(row["updates"]),
            f"{row['seconds']:.0f}",
            f"{trained_flops(row) / 1e12:.2f}",
        ]
        rows.append([words, *sizes, f"{mean_error(row):.3f}", *values])
    return head, rows


def transformer_choices(data: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table of the middle transformer and its changes: measured("transformers"), written out."""
    head = [
        "DiT of width 48",
        "updates",
        "seconds",
        "error of v ↓",
        "the same, t ≤ 100",
        "at 400 < t ≤ 600",
        "at t > 900",
    ]
    rows = []
    for name, row in data["choices"].items():
        error = row["error"]
        some = [error[0], (error[4] + error[5]) / 2, error[9]]
        rows.append(
            [name, str(row["updates"]), f"{row['seconds']:.0f}", *(f"{v:.3f}" for v in (mean_error(row), *some))]
        )
    return head, rows


def transformer_figure(data: dict[str, Any]) -> Figure:
    """Training loss against seconds and against operations, and the error of v by the tenth of the times: a colour for each
    kind of network, a line style for each size: measured("transformers"), drawn."""
    figure, axes = plots.subplots(1, 3, size=(11.4, 3.9))
    colours = {"unet": plots.BLUE, "adm": plots.GREEN, "dit": plots.ORANGE}
    styles = dict(zip(SIZES, (":", "--", "-"), strict=True))
    for family, words in FAMILIES.items():
        for size in SIZES:
            if f"{family} {size}" not in data["rows"]:
                continue
            row = data["rows"][f"{family} {size}"]
            seconds, losses = zip(*row["curve"], strict=True)
            done = [trained_flops(row) * s / row["seconds"] / 1e12 for s in seconds]
            look = {"color": colours[family], "ls": styles[size], "label": f"{words}, {size}"}
            axes[0].plot(seconds, losses, **look)
            axes[1].plot(done, losses, **look)
            if size == "middle":
                axes[2].plot([k + 0.5 for k in range(10)], row["error"], marker="o", ms=3, **look)
    for ax, name in zip(axes[:2], ("seconds of training", "operations, in units of 10¹²"), strict=True):
        ax.set(xscale="log", yscale="log", xlabel=name)
        plain_ticks(ax.xaxis)
        plain_ticks(ax.yaxis)
    axes[0].set_ylabel("training loss")
    axes[2].set(xlabel="time t, in hundreds", title="error of v, middle size", yscale="log")
    plain_ticks(axes[2].yaxis, (1, 2, 3, 5, 7))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def transformer_alt(data: dict[str, Any]) -> str:
    """transformer_figure in words: where the lines end."""
    ends = []
    for family, words in FAMILIES.items():
        for size in SIZES:
            if f"{family} {size}" not in data["rows"]:
                continue
            row = data["rows"][f"{family} {size}"]
            ends.append(f"{words}, {size}, loss {row['curve'][-1][1]:.3f} after {trained_flops(row) / 1e12:.1f}")
    return (
        "Training loss of U-Nets and transformers, left against seconds, then against operations in units of 10 to the 12th, and "
        f"on the right the error of the three middle ones by the tenth of the times. The lines end, after so "
        f"many units of operations, at: {'; '.join(ends)}."
    )


def trained_flops(row: dict[str, Any]) -> float:
    """Operations of a whole training, in batches of 32."""
    return row["flops"] * 32.0 * row["updates"]


def mean_error(row: dict[str, Any]) -> float:
    """The error of v, a mean over even times."""
    return sum(row["error"]) / len(row["error"])


def quality_figure(data: dict[str, Any]) -> Figure:
    """Fréchet distance (book, eq. 6.6) against the time of training, in updates of chapter 6's network, a line for each network:
    measured("quality"), drawn."""
    figure, axes = plots.subplots(size=(7.6, 4.0))
    eight = (plots.BLUE, plots.ORANGE, plots.GREEN, plots.RED, plots.PURPLE, plots.SKY, plots.BLACK, "#777777")
    colours = itertools.cycle(eight)
    for marker, colour, (name, points) in zip("osDv^X*Ph<", colours, data["curves"].items(), strict=False):
        times = [point["in_our_updates"] for point in points]
        values, errors = ([point["frechet"][key] for point in points] for key in ("value", "error"))
        style = f"{marker}-" if len(points) > 1 else marker
        width = 2 if name == "ours" else 1.2
        axes.errorbar(times, values, errors, fmt=style, color=colour, capsize=2, label=TITLES[name], linewidth=width)
    axes.axhline(data["perfect"]["frechet"]["value"], linestyle="--", color="#777777", label=TITLES["perfect"])
    axes.set(xscale="log", yscale="log", xlabel="time of training, in updates of ours", ylabel=FRECHET)
    plain_ticks(axes.xaxis)
    plain_ticks(axes.yaxis)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def quality_alt(data: dict[str, Any]) -> str:
    """quality_figure in words: where each line ends."""
    ends = {TITLES[name]: points[-1] for name, points in data["curves"].items()}
    said = [f"{title} {number(end['frechet']['value'])} at {end['in_our_updates']:,.0f}" for title, end in ends.items()]
    said.append(f"{TITLES['perfect']}, a dashed line at the bottom, {number(data['perfect']['frechet']['value'])}")
    axes = "Fréchet distance against the time of training, counted in updates of our network, both axes logarithmic."
    return f"{axes} The lines end at: {'; '.join(said)}."


def steps_figure(data: dict[str, Any]) -> Figure:
    """Fréchet distance and share recognised against the number of sampling steps: measured("steps"), drawn."""
    figure, axes = plots.subplots(1, 2, size=(9.0, 3.9))
    colours = (plots.BLUE, plots.SKY, plots.ORANGE, plots.RED)  # the warmer, the more fresh noise
    markers = "os^D"
    styles = {"uniform": "-", "quadratic": "--"}
    names = {"frechet": FRECHET, "recognised": "share recognised (higher is better)"}
    for ax, (measure, name) in zip(axes, names.items(), strict=True):
        for colour, marker, (sampler, curve) in zip(colours, markers, data["curves"].items(), strict=True):
            for spacing, points in curve.items():
                steps = [point["steps"] for point in points]
                values, errors = ([point[measure][key] for point in points] for key in ("value", "error"))
                label = sampler if spacing == "uniform" else None
                look = {"fmt": f"{marker}{styles[spacing]}", "color": colour, "markersize": 4.5}
                ax.errorbar(steps, values, errors, label=label, **look)
        ax.axhline(data["perfect"][measure]["value"], linestyle=":", color="#777777", label="real images")
        ax.set(xscale="log", xlabel="sampling steps", title=name)
        ax.set_xticks(steps, [str(step) for step in steps])
        ax.xaxis.minorticks_off()
    axes[0].set_yscale("log")
    plain_ticks(axes[0].yaxis)
    for spacing, style in styles.items():
        axes[0].plot([], [], style, color="#777777", label=f"{spacing} spacing")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def number(value: float) -> str:
    """Three digits, and thousands told apart."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def with_error(value: dict[str, float]) -> str:
    """A number and its standard error, as many digits as the error deserves."""
    error = value["error"]
    digits = max(0, min(4, 1 - math.floor(math.log10(error)))) if error > 0 else 2
    return f"{value['value']:.{digits}f} ± {error:.{digits}f}"


def plain_ticks(axis: Any, subs: tuple[int, ...] = (1, 2, 5)) -> None:
    """Ticks of a logarithmic axis at 1, 2, 5, 10, 20, ... (subs: others than 1, 2, 5), written out."""
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def _section(name: str) -> dict[str, Any]:
    there = json.loads(PATH.read_text(encoding="utf-8")) if PATH.is_file() else {}
    if name not in there:
        raise ValueError(
            f"section must be one of those that were measured, {', '.join(map(repr, there)) or 'none so far'}, got {name!r}; "
            f"python -m benchmarks {name} measures it"
        )
    return there[name]
