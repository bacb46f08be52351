"""For each explorer on a page: the explorer as its chapter shows it, and the numbers that its JavaScript needs beside the
controls' values: constants of its module, the draws it was given, and tables of what would take too many draws in a page."""

import base64
import importlib
from typing import Any

import numpy as np
import torch
from figure import data, runs

from diffnotes import Schedule, load_images
from diffnotes.book.explorers import (
    build_flows,
    build_gate,
    build_humps,
    build_kl,
    build_posterior,
    build_roads,
    build_schedule,
    build_solvers,
    build_telescope,
    build_tilt,
    build_weights,
)
from diffnotes.book.live.widgets import Explorer

Found = tuple[Explorer, dict[str, Any]]


def schedule() -> Found:
    """The schedule explorer of chapter 1, on the digit that the chapter takes, with the noise of its seed."""
    image = load_images("auto").x[0]
    eps = torch.randn((1, *image.shape), generator=torch.Generator().manual_seed(0), dtype=image.dtype)
    return build_schedule(image), {
        "image": image.flatten().tolist(),
        "eps": _short(eps.flatten()),
        "columns": image.shape[-1],
    }


def humps() -> Found:
    """Two humps to a bell and back, the opening of appendix A."""
    from diffnotes.book.explorers.humps import EPS, HUMPS, REACH, SPREAD, X_0, _draws

    return build_humps(), {
        "humps": HUMPS, "spread": SPREAD, "x_0": X_0, "eps": EPS, "draws": _short(_draws()), "reach": REACH,
    }  # fmt: skip


def kl() -> Found:
    """The two bells of appendix A."""
    from diffnotes.book.explorers.gaussians import HIGHEST, REACH

    return build_kl(), {"reach": REACH, "highest": HIGHEST}


def gate() -> Found:
    """The gate of chapter 2. Of the walkers: how many pass each gate, where they were before, and the paths that are drawn, in
    cells of which a gate has a whole number."""
    from diffnotes.book.explorers.gate import BARS, DRAWN, FEW, LINE, WALKERS, WIDTH, walk

    T, x_0 = 20, 0.8
    coarse = Schedule.cosine(T=T)
    explorer = build_gate(coarse, x_0=x_0)
    slider, paths, edges, cell = explorer.controls["x_t"], walk(coarse, x_0), np.linspace(*LINE, BARS + 1), WIDTH / 512
    places = [
        round(slider.min + k * slider.step, 2) + 0.0 for k in range(round((slider.max - slider.min) / slider.step) + 1)
    ]
    drawn, tables = set(), []
    for t in range(2, T + 1):
        before = paths[t - 1]
        gates = {}
        for x_t in places:
            passed = np.flatnonzero(np.abs(paths[t] - x_t) < WIDTH / 2)
            drawn.update(passed[:DRAWN].tolist())
            there = before[passed] if len(passed) else np.zeros(1)
            counts = np.histogram(before[passed], edges)[0]
            filled = np.flatnonzero(counts) if counts.any() else np.zeros(1, int)
            some = counts[filled[0] : filled[-1] + 1].tolist()
            gates[f"{x_t:.2f}"] = [len(passed), *_short([there.mean(), there.std()]), int(filled[0]), *some]
        every = {
            "counts": np.histogram(before, edges)[0].tolist(),
            "mean": float(before.mean()),
            "spread": float(before.std()),
        }
        tables.append({"all": every, "gates": gates})
    cells = np.floor(paths[:, sorted(drawn)].T.astype(float) / cell).astype("<i2")
    return explorer, {
        "T": T, "x_0": x_0, "line": LINE, "width": WIDTH, "walkers": WALKERS, "drawn": DRAWN, "few": FEW, "cell": cell,
        "paths": base64.b64encode(cells.tobytes()).decode(), "before": tables,
    }  # fmt: skip


def posterior() -> Found:
    """Slice and multiply, chapter 2."""
    from diffnotes.book.explorers.posterior import LINE, STARTS

    T = 100
    return build_posterior(Schedule.cosine(T=T), t=40, back=20), {"T": T, "line": LINE, "starts": STARTS}


def weights() -> Found:
    """What the losses weigh, chapter 4."""
    from diffnotes.book.explorers.weights import LABELS, LETTERS, TITLES, VARIANCES, T

    titles = {target: [runs(words.format(letter)) for words in TITLES] for target, letter in LABELS.items()}
    return build_weights(), {"T": T, "letters": LETTERS, "variances": VARIANCES, "titles": titles}


def telescope() -> Found:
    """The arrows turned along the chain, chapter 11: which parts of the figure are seen at each stop, and what is said there."""
    explorer = build_telescope()
    stops = explorer.controls["stop"]
    shown, readings = [], []
    for stop in range(stops.min, stops.max + 1):
        readings.append(explorer.update(stop=stop))
        shown.append([int(artist.get_visible()) for artist in explorer.plot.artists])
    explorer.reset()
    parts = [data(artist) for artist in explorer.plot.artists]
    return explorer, {"parts": parts, "shown": shown, "readings": readings}


def tilt() -> Found:
    """Densities tilted, noised and drawn from, chapter 9."""
    from diffnotes.book.explorers.tilt import BORDER, CENTRES, SD, STARTS, STEPS, WEIGHTS

    return build_tilt(), {
        "centres": CENTRES, "weights": WEIGHTS, "sd": SD, "border": BORDER, "steps": STEPS, "starts": STARTS,
    }  # fmt: skip


def roads() -> Found:
    """Every road from noise, chapter 13. Where the many paths end stands in a table."""
    from diffnotes.book.explorers.roads import BINS, DATA, FIRST, MANY, PATHS, STEPS, by_chance, distance, final

    explorer = build_roads()
    lams, numbers = (_stops(explorer.controls[key]) for key in ("lam", "steps"))
    ends = {
        f"{lam:.1f} {steps}": [
            *_short([distance(lam, int(steps))]),
            *np.histogram(final(lam, int(steps)), BINS)[0].tolist(),
        ]
        for lam in lams
        for steps in numbers
    }
    noise = np.random.default_rng(1).standard_normal((STEPS, PATHS))
    return explorer, {
        "mixture": vars(DATA), "first": FIRST, "paths": PATHS, "noise": _short(noise, 12), "edges": BINS.tolist(), "ends": ends,
        "many": MANY, "byChance": by_chance(),
    }  # fmt: skip


def solvers() -> Found:
    """The race of the solvers, chapter 14. The errors of the stochastic one stand in a table."""
    race = importlib.import_module("diffnotes.book.explorers.solvers")  # the package has a function of that name
    explorer = build_solvers()
    grids = ["t", "lambda", *(f"karras {int(rho)}" for rho in _stops(explorer.controls["rho"]))]
    calls = [int(calls) for calls in _stops(explorer.controls["calls"])]
    levels = {"zero": race.ZERO, "highest": race.HIGHEST, "lowest": race.LOWEST}
    return explorer, levels | {
        "mixture": vars(race.DATA), "paths": race.CURVES, "many": race.PATHS, "counts": race.COUNTS, "height": race.HEIGHT,
        "start": int(race.karras_times(Schedule.cosine(), 1)[0]), "grids": race.GRIDS,
        "looks": {name: {"colour": colour} for name, (colour, _) in race.LOOKS.items()},
        "noise": _short(race.fresh(race.CURVES)), "byChance": race.by_chance(), "fewest": calls[0],
        "stochastic": {grid: _short([race.error("SDE-2M", number, grid) for number in calls]) for grid in grids},
    }  # fmt: skip


def flows() -> Found:
    """Noise into a ring, chapter 15."""
    from diffnotes.book.explorers.flows import LINES, PAIRS, RING, pair

    return build_flows(), {
        "lines": LINES, "eps": _short(pair("independent")[0], 17),
        "partners": {name: _short(pair(name)[1], 17) for name in PAIRS},
        "centres": RING.centres.tolist(), "sd": RING.sd,
    }  # fmt: skip


def _stops(slider: Any) -> list[float]:
    """The values of a slider."""
    return [round(slider.min + k * slider.step, 6) for k in range(round((slider.max - slider.min) / slider.step) + 1)]


def _short(values: Any, digits: int = 9) -> Any:
    """Nested lists of numbers with so many digits; 17 are all. Draws that a steep flow pulls apart need many."""
    return [_short(value, digits) for value in values] if np.ndim(values) else float(f"{float(values):.{digits}g}")


EXPLORERS = {
    "schedule": schedule, "humps": humps, "kl": kl, "gate": gate, "posterior": posterior, "weights": weights,
    "telescope": telescope, "tilt": tilt, "roads": roads, "solvers": solvers, "flows": flows,
}  # fmt: skip
