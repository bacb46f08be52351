"""The family portrait of chapter 21, written out: every model of the book on the same digits, by the same judge.

Each function takes measured("portrait"), which `python -m benchmarks portrait` makes."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from diffnotes.book.live import plots
from diffnotes.book.press.measured import number, with_error

MODELS = {
    "ddpm": "DDPM",
    "ddim": "DDIM",
    "dpm_solver": "DPM-Solver++(2M)",
    "guided": "DDIM, guided",
    "dit": "DiT, DDIM",
    "score_sde": "score SDE (VE)",
    "flow_matching": "flow matching",
    "consistency": "consistency",
    "latent": "latent diffusion",
    "cascade": "cascade",
    "vae": "VAE",
    "realnvp": "RealNVP",
    "vq_pixelcnn": "VQ-VAE + PixelCNN",
    "vq_gpt": "VQ-VAE + GPT",
    "gan": "GAN",
    "gan_labels": "GAN with labels",
}
SETS = {
    "real": "real digits",
    "blurred": "blurred",
    "one_a_class": "one picture a class",
    "only_0_to_4": "only 0 to 4",
    "fifty_copies": "fifty pictures, copied",
    "noise": "noise added",
}
NEAR, RING = (
    17,
    20,
)  # points of the map whose numbers would touch, and how far outside them the numbers stand; in points
Sheets = dict[str, list[tuple[str, str, str]]]  # for each budget: title, PNG in base64, a line of numbers


def models(data: dict[str, Any], budget: str) -> dict[str, dict[str, Any]]:
    """The rows of one budget by their titles, in the book's order."""
    if budget not in data["rows"]:
        raise ValueError(f"budget must be one of {', '.join(map(repr, data['rows']))}, got {budget!r}")
    rows = data["rows"][budget]
    return {title: rows[name] for name, title in MODELS.items() if name in rows}


def made_sets(data: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What the sample sets score that no model drew, by their titles."""
    found = next(part for part in data.values() if isinstance(part, dict) and "one_a_class" in part)
    return {title: found[name] for name, title in SETS.items() if name in found}


def cost_table(data: dict[str, Any], budget: str = "3") -> tuple[list[str], list[list[str]]]:
    """Head and rows: what each model costs to train and to draw from, and its bits per dimension where it has any."""
    head = ["model", "weights", "updates", "trained, s", "calls", "64 digits, s", "bits/dim"]
    rows = []
    for title, row in models(data, budget).items():
        seconds = f"{row['drawing_seconds']:.3f}" if row["drawing_seconds"] < 0.1 else f"{row['drawing_seconds']:.2f}"
        made = [f"{row['parameters']:,}", f"{row['updates']:,}", f"{row['training_seconds']:.0f}"]
        rows.append([title, *made, str(row["calls"]), seconds, bits(row["bits"])])
    return head, rows


def time_table(data: dict[str, Any], key: str = "frechet_infinity") -> tuple[list[str], list[list[str]]]:
    """Head and rows: one measure of each model after every budget of time."""
    budgets = list(data["rows"])
    rows = []
    for name, title in MODELS.items():
        found = [data["rows"][budget].get(name) for budget in budgets]
        if any(found):
            rows.append([title, *(with_error(row[key]) if row else "–" for row in found)])
    return ["after", *(f"{budget} min" for budget in budgets)], rows


def bits(measured: dict[str, Any] | None) -> str:
    """Bits per dimension as they are known: exactly, as a bound, or as a bound through added noise; a dash for none."""
    if measured is None:
        return "–"
    return f"{'' if measured['kind'] == 'exact' else '≤ '}{with_error(measured)}"


def judged_table(data: dict[str, Any], budget: str = "3") -> tuple[list[str], list[list[str]]]:
    """Head and rows: what each model's samples score, and below them the sample sets that no model drew."""
    head = ["samples of", "Fréchet ↓", "extrapolated ↓", "recognised ↑", "IS (MNIST) ↑", "entropy ↑", "precision ↑"]
    head += ["recall ↑", "copies ↓"]
    rows = []
    for title, row in (models(data, budget) | made_sets(data)).items():
        distances = [with_error(row[key]) for key in ("frechet", "frechet_infinity")]
        share, score = f"{row['recognised']['value']:.3f}", f"{row['inception']['value']:.2f}"
        others = [f"{row[key]['value']:.2f}" for key in ("entropy", "precision", "recall", "copies")]
        rows.append([title, *distances, share, score, *others])
    return head, rows


def precision_recall(data: dict[str, Any], budget: str = "3") -> Figure:
    """Recall over precision, a numbered dot for each model, whose area grows with the logarithm of the time that 64 digits take;
    real digits are a diamond. Beside it the corner below the real digits, enlarged: the numbers there stand in it alone.
    Where dots run into each other, their numbers stand around them, each with a line to its dot."""
    figure, (whole, corner) = plots.subplots(1, 2, size=(9.6, 4.1))
    real = made_sets(data)["real digits"]
    place = real["precision"]["value"], real["recall"]["value"]
    corner.set(xlim=(place[0] - 0.16, place[0] + 0.02), ylim=(place[1] - 0.16, place[1] + 0.02), title="enlarged")
    labels: dict[Any, list[tuple[str, float, float]]] = {whole: [], corner: []}
    for i, (title, row) in enumerate(models(data, budget).items(), 1):
        x, y, took = row["precision"]["value"], row["recall"]["value"], row["drawing_seconds"]
        colour = plots.ORANGE if row["calls"] == 1 else plots.SKY
        size = 110 + 90 * max(0.0, float(np.log10(took / 0.005)))
        inside = corner.get_xlim()[0] < x < corner.get_xlim()[1] and corner.get_ylim()[0] < y < corner.get_ylim()[1]
        whole.scatter(x, y, s=size / 2 if inside else size, color=colour, alpha=0.7)
        corner.scatter(x, y, s=size, color=colour, alpha=0.7)
        labels[corner if inside else whole].append((str(i), x, y))
        whole.scatter([], [], color=colour, label=f"{i}  {title}, {number(took)} s")
    for ax in (whole, corner):
        ax.scatter(*place, marker="D", color=plots.BLACK, label="real digits")
        ax.set_xlabel("precision: share of samples among real")
    whole.set(xlim=(0.5, 1), ylim=(-0.04, 1), ylabel="recall: share of real among samples")
    whole.set_title("orange: one call; area: log of time")
    figure.legend(*whole.get_legend_handles_labels(), loc="outside right center")
    figure.draw_without_rendering()  # the places of the axes are settled now
    for ax, found in labels.items():
        _write(ax, found)
    return figure


def _write(ax: Any, labels: list[tuple[str, float, float]]) -> None:
    """Each label at its point; where points lie closer than NEAR, in a ring around them, in the order of their directions."""
    places = 72 / ax.figure.dpi * ax.transData.transform(np.array([at for _, *at in labels]).reshape(-1, 2))
    group = np.arange(len(labels))
    for i, j in np.argwhere(np.linalg.norm(places[:, None] - places, axis=2) < NEAR):
        group[group == group[j]] = group[i]
    for members in (np.flatnonzero(group == k) for k in np.unique(group)):
        away = places[members] - places[members].mean(0)
        towards = away[:, 0] + 1j * away[:, 1]
        order = np.argsort(np.angle(towards))
        even = np.exp(2j * np.pi * np.arange(len(members)) / len(members))
        even *= np.exp(1j * np.angle((np.exp(1j * np.angle(towards[order])) / even).sum()))
        ring = (abs(towards).max() + RING) * even if len(members) > 1 else towards
        for k, target in zip(order, ring, strict=True):
            text, x, y = labels[members[k]]
            offset = target - towards[k]
            line = {"arrowstyle": "-", "lw": 0.8, "shrinkA": 0, "shrinkB": 0} if offset else None
            ax.annotate(
                text,
                (x, y),
                (offset.real, offset.imag),
                textcoords="offset points",
                ha="center",
                va="center",
                fontsize=9,
                arrowprops=line,
            )


def precision_recall_alt(data: dict[str, Any], budget: str = "3") -> str:
    """precision_recall in words."""
    said = [
        f"{title} {row['precision']['value']:.2f} and {row['recall']['value']:.2f}"
        for title, row in (models(data, budget) | {"real digits": made_sets(data)["real digits"]}).items()
    ]
    return f"Numbered dots, precision across and recall up: {'; '.join(said)}."


def sheets(data: dict[str, Any]) -> Sheets:
    """Forty digits of each model for each budget, with a line of numbers: what explorers.portrait shows."""
    return {
        budget: [
            (title, row["sheet"], f"Fréchet {number(row['frechet']['value'])} · recall {row['recall']['value']:.2f}")
            for title, row in models(data, budget).items()
        ]
        for budget in data["rows"]
    }
