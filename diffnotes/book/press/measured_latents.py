"""The tables and the figure of chapter 18, from the section "latents" of the benchmarks (see measured.py)."""

from typing import Any

from matplotlib.figure import Figure

from diffnotes.book.live import plots
from diffnotes.book.press.measured import FRECHET, number, with_error

RACE = {
    "pixel": "diffusion in pixels (chapter 6)",
    "latent": "autoencoder + latent diffusion",
    "cascade": "cascade, 14 to 28 pixels",
    "clipped": "the same latents, predictions cut to [-1, 1]",
    "random_codes": "random codes, decoded",
    "drawn_codes": "test images, encoded and decoded",
    "perfect": "test images themselves",
}
EMBEDDINGS = {
    "train": "of training images",
    "prior": "the prior's draws",
    "mean": "mean of the caption (regression)",
    "text": "the text's own embedding",
    "test": "of test images",
}
STAGES = {"without": "without augmentation", "with": "with augmentation"}
KINDS = {"true": "true small images", "drawn": "drawn small images"}
Table = tuple[list[str], list[list[str]]]


def latents_table(data: dict[str, Any]) -> Table:
    """Head and rows of the comparison at equal time: measured("latents"), written out."""
    head = ["what is judged", "weights", "updates", "seconds", "calls", "64 digits", "10⁶ operations a call"]
    head += ["Fréchet d² ↓", "recognised ↑", "recall ↑", "as asked ↑"]
    rows = []
    for name, words in RACE.items():
        row = data["rows"][name]
        made = [""] * 6
        if "updates" in row:
            updates, cost = f"{row['updates']:,}", data["cost"].get(name)
            if name == "latent":
                first = data["autoencoder"]["updates"]
                updates = f"{first:,} + {row['updates'] - first:,}"
            made = [f"{row['parameters']:,}", updates, f"{row['seconds']:.0f}", str(row["calls"])]
            made += [f"{row['drawing_seconds']:.2f} s", f"{cost['mflop']:.0f}" if cost else ""]
        values = [with_error(row[key]) for key in ("frechet", "recognised", "recall")]
        asked = f"{row['right']:.0%}" if "updates" in row or name == "clipped" else ""
        rows.append([words, *made, *values, asked])
    return head, rows


def scale_table(data: dict[str, Any]) -> Table:
    """Head and rows of the table of scales k: measured("latents"), written out."""
    head = ["k", "updates", "error of v in training", "deviation of what is drawn", "Fréchet d² ↓", "recognised ↑"]
    head += ["as asked ↑"]
    rows = []
    for k, row in data["scale"]["rows"].items():
        values = [with_error(row[key]) for key in ("frechet", "recognised")]
        rows.append(
            [
                k,
                str(data["scale"]["updates"]),
                f"{row['loss']:.3f}",
                f"{row['deviation']:.2f}",
                *values,
                f"{row['right']:.0%}",
            ]
        )
    return head, rows


def gap_table(data: dict[str, Any]) -> Table:
    """Head and rows of the table of the second stages, after the small images themselves: measured("latents")."""
    head = [
        "second stage",
        "s",
        "Fréchet d², true ↓",
        "Fréchet d², drawn ↓",
        "gap",
        "as asked, true",
        "as asked, drawn",
    ]
    head += ["off the small image (rms of a pixel), true", "drawn"]
    small = {kind: data["cascade"]["small"][kind]["frechet"] for kind in KINDS}
    gap = small["drawn"]["value"] - small["true"]["value"]
    values = [with_error(small["true"]), with_error(small["drawn"]), f"{gap:.2f}"]
    rows = [["the small images themselves", "–", *values, "–", f"{data['cascade']['right']:.0%}", "–", "–"]]
    for name, words in STAGES.items():
        for point in data["cascade"]["rows"][name]:
            true, drawn = point["true"], point["drawn"]
            gap = drawn["frechet"]["value"] - true["frechet"]["value"]
            values = [with_error(true["frechet"]), with_error(drawn["frechet"]), f"{gap:.2f}"]
            values += [f"{true['right']:.0%}", f"{drawn['right']:.0%}", f"{true['off']:.3f}", f"{drawn['off']:.3f}"]
            rows.append([words, str(point["s"]), *values])
    return head, rows


def gap_figure(data: dict[str, Any]) -> Figure:
    """Fréchet distance of the large images against the level s, on true and on drawn small images: measured("latents"), drawn."""
    figure, axes = plots.subplots(1, 2, size=(9.2, 3.3))
    colours = {"true": plots.BLUE, "drawn": plots.ORANGE}
    points = data["cascade"]["rows"]
    for kind, words in KINDS.items():
        levels = [point["s"] for point in points["with"]]
        values, errors = ([point[kind]["frechet"][key] for point in points["with"]] for key in ("value", "error"))
        axes[0].errorbar(levels, values, errors, fmt="o-", color=colours[kind], capsize=2, label=f"{words}, with")
        (plain,) = points["without"]
        value, error = plain[kind]["frechet"]["value"], plain[kind]["frechet"]["error"]
        axes[0].errorbar([0], [value], [error], fmt="D", mfc="white", color=colours[kind], capsize=2)
        axes[0].plot([], [], "D", mfc="white", color=colours[kind], label=f"{words}, without")
    axes[0].set(xlabel="level s of the noise on the small image", ylabel=FRECHET)
    axes[0].set(title="the large images", ylim=(0, None))
    axes[0].legend()
    gaps = [p["drawn"]["frechet"]["value"] - p["true"]["frechet"]["value"] for p in points["with"]]
    (plain,) = points["without"]
    gap = plain["drawn"]["frechet"]["value"] - plain["true"]["frechet"]["value"]
    axes[1].plot(levels, gaps, "o-", color=plots.GREEN, label="with augmentation")
    axes[1].plot([0], [gap], "D", mfc="white", color=plots.GREEN, label="without")
    axes[1].set(xlabel="level s", title="gap: drawn minus true", ylim=(0, None))
    axes[1].legend()
    return figure


def gap_alt(data: dict[str, Any]) -> str:
    """gap_figure in words: where its points are."""
    points = data["cascade"]["rows"]
    (plain,) = points["without"]
    value = {kind: number(plain[kind]["frechet"]["value"]) for kind in KINDS}
    said = [
        f"s = {p['s']}: {number(p['true']['frechet']['value'])} and {number(p['drawn']['frechet']['value'])}"
        for p in points["with"]
    ]
    return (
        "Left, Fréchet distance against the level s, a line for true and one for drawn small images; right, the difference "
        f"of the two. With augmentation, true and drawn: {'; '.join(said)}. Diamonds, without augmentation: {value['true']} and "
        f"{value['drawn']}."
    )


def prior_table(data: dict[str, Any]) -> Table:
    """Head and rows of what stands in the place of an embedding, and of digits decoded from it: measured("latents")."""
    head = [
        "embedding",
        "Fréchet in z ↓",
        "mean square",
        "length",
        "within captions",
        "decoded: Fréchet d² ↓",
        "recall ↑",
    ]
    head += ["digit", "thickness", "slant"]
    rows = []
    for name, words in EMBEDDINGS.items():
        row = data["prior"]["rows"][name]
        shares = "–" if row["within"] is None else f"{row['within']:.0%}"
        first = "0" if name == "test" else with_error(row["frechet"])
        values = [first, f"{row['square']:.1f}", f"{row['length']:.3f}", shares]
        if name in data["prior"]["drawings"]:
            drawing = data["prior"]["drawings"][name]
            values += [with_error(drawing["frechet"]), with_error(drawing["recall"])]
            values += [f"{drawing[key]:.0%}" for key in ("digit", "thickness", "slant")]
        else:
            values += ["–"] * 5
        rows.append([words, *values])
    return head, rows
