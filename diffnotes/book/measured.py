"""What takes too long to measure in a notebook: read from the numbers of the benchmarks, which the repository keeps.

A chapter that shows such numbers says where they come from, and how to make them again.
"""

import json
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from diffnotes.book import plots
from diffnotes.book.scan import FOLDER

PATH = FOLDER.parent / "docs" / "benchmarks" / "results.json"


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


def steps_figure(data: dict[str, Any]) -> Figure:
    """Fréchet distance and share recognised against the number of sampling steps: measured("steps"), drawn."""
    figure, axes = plots.subplots(1, 2, size=(9.0, 3.9))
    colours = (plots.BLUE, plots.SKY, plots.ORANGE, plots.RED)  # the warmer, the more fresh noise
    styles = {"linear": "-", "quadratic": "--"}
    names = {"frechet": "Fréchet distance (lower is better)", "recognised": "share recognised (higher is better)"}
    for ax, (measure, name) in zip(axes, names.items(), strict=True):
        for colour, (sampler, curve) in zip(colours, data["curves"].items(), strict=True):
            for spacing, points in curve.items():
                steps = [point["steps"] for point in points]
                values, errors = ([point[measure][key] for point in points] for key in ("value", "error"))
                label = sampler if spacing == "linear" else None
                ax.errorbar(steps, values, errors, fmt=f"o{styles[spacing]}", color=colour, markersize=4, label=label)
        ax.axhline(data["perfect"][measure]["value"], linestyle=":", color="#777777", label="real images")
        ax.set(xscale="log", xlabel="sampling steps", title=name)
        ax.set_xticks(steps, [str(step) for step in steps])
        ax.xaxis.minorticks_off()
    axes[0].set_yscale("log")
    axes[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes[0].yaxis.set_minor_locator(NullLocator())
    for spacing, style in styles.items():
        axes[0].plot([], [], style, color="#777777", label=f"{spacing} spacing")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _section(name: str) -> dict[str, Any]:
    there = json.loads(PATH.read_text(encoding="utf-8")) if PATH.is_file() else {}
    if name not in there:
        raise ValueError(
            f"section must be one of those that were measured, {', '.join(map(repr, there)) or 'none so far'}, got {name!r}; "
            f"python -m benchmarks {name} measures it"
        )
    return there[name]
