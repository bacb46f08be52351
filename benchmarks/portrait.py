"""The family portrait: every model of the book on the same digits, with the same time to train, by the same judge (book,
chapter 21), for several budgets of time; and sample sets that no model drew, each of which fools some measure.

What a model drew is kept in runs/portrait-..., so that a run that was stopped goes on where it was, and the table can be made
again without training. To train anew, delete that folder.
"""

import base64
import io
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import family
from benchmarks.family import Row, Trained
from benchmarks.measure import Budget, clock, pace
from benchmarks.quality import OWN
from diffnotes import Images
from diffnotes.training.grid import grid_image, to_uint8
from diffnotes.training.metrics import (
    features_and_probabilities,
    frechet_infinity,
    held_out,
    inception_score,
    quality,
)

FOLDER = Path(__file__).resolve().parents[1] / "runs"
FAMILY: dict[str, Callable[[Images, float], Trained | dict[str, Trained]]] = {
    "denoisers": family.denoisers,
    "dit": family.dit,
    "score": family.score,
    "flow": family.flow,
    "consistency": family.consistency,
    "latent": family.latent,
    "cascade": family.cascade,
    "vae": family.vae,
    "realnvp": family.realnvp,
    "codes": family.codes,
    "gan": family.gan,
    "gan_labels": family.gan_labels,
}
ROWS = (
    "ddpm", "ddim", "dpm_solver", "guided", "dit", "score_sde", "flow_matching", "consistency", "latent", "cascade",
    "vae", "realnvp", "vq_pixelcnn", "vq_gpt", "gan", "gan_labels",
)  # fmt: skip
NEAR = 0.01  # a copy lies nearer to a training image than all but this share of the test images do


def measure(budget: Budget, train: Images, test: Images, folder: Path = FOLDER) -> dict[str, Any]:
    """Every model for every budget of time, each in updates of chapter 6's network, and the sample sets."""
    N, minutes = budget.portrait_samples, budget.portrait
    perfect, real = held_out(test.x, min(budget.perfect, len(test) // 4))
    few = Images(test.x[: budget.bits_images], test.y[: budget.bits_images], test.name, test.source)
    threshold = distances(test.x[: budget.portrait_samples], train.x).quantile(NEAR)

    def judged(samples: Tensor) -> dict[str, Any]:
        return measures(samples, real) | copies(samples, train.x, threshold)

    kept = folder / f"portrait-{'-'.join(str(n) for n in minutes.values())}-{N}"
    step = None
    rows: dict[str, dict[str, Any]] = {}
    for name, updates in minutes.items():
        found: dict[str, Any] = {}
        for member, make in FAMILY.items():
            files = sorted(kept.glob(f"{name}-{member}-*.npz"))
            if not files:
                step = step or pace(OWN["ours"].make(train).steps(updates=100_000))
                files = freeze(make(train, updates * step), few, N, kept / f"{name}-{member}")
            for file in files:
                row, facts, samples = thaw(file)
                found[row] = facts | judged(samples) | {"sheet": sheet(samples)}
                print(f"  {name} {row}: {facts['updates']} updates, {facts['training_seconds']:.0f} s, ", end="")
                print(f"distance {found[row]['frechet']['value']:.2f}, {facts['bits']}", flush=True)
        rows[name] = {row: found[row] for row in ROWS if row in found}
    seconds = {name: rows[name]["ddpm"]["training_seconds"] for name in minutes}
    return {
        "budgets": seconds,
        "updates_of_ours": dict(minutes),
        "threads": torch.get_num_threads(),
        "samples": N,
        "real": len(real),
        "images": train.name,
        "bits_images": len(few),
        "guidance": family.GUIDANCE,
        "sample_sets": {
            name: judged(sample_set) | {"sheet": sheet(sample_set)}
            for name, sample_set in sample_sets(perfect, train, test, N).items()
        },
        "rows": rows,
    }


# -- what a model drew, kept ----------------------------------------------------------------------------------------------


def freeze(done: Trained | dict[str, Trained], few: Images, number: int, start: Path) -> list[Path]:
    """Draw `number` images by each sampler, measure its time and its bits, and keep all that as start-ROW.npz."""
    kept = {}
    for trained in done.values() if isinstance(done, dict) else [done]:
        for name, row in trained.rows.items():
            facts = {
                "parameters": trained.parameters,
                "updates": trained.updates,
                "training_seconds": trained.seconds,
                "calls": row.calls,
                "drawing_seconds": seconds_for_64(row),
                "bits": row.bits(few) if row.bits else None,
            }
            with torch.no_grad():
                samples = torch.cat([row.draw(slice(i, min(i + 100, number))) for i in range(0, number, 100)])
            kept[start.with_name(f"{start.name}-{name}.npz")] = (to_uint8(samples), json.dumps(facts))
    start.parent.mkdir(parents=True, exist_ok=True)
    for path, (
        images,
        facts_of_row,
    ) in kept.items():  # all of them or none: a run that is stopped begins this model again
        np.savez_compressed(path, images=images, facts=facts_of_row)
    return list(kept)


def seconds_for_64(row: Row) -> float:
    """The second time, when everything is warm."""
    with torch.no_grad():
        row.draw(slice(0, 64))
        started = clock()
        row.draw(slice(0, 64))
        return clock() - started


def thaw(file: Path) -> tuple[str, dict[str, Any], Tensor]:
    """The row, its facts and its images, of the 256 grey values, in [-1, 1]."""
    with np.load(file) as kept:
        images = torch.from_numpy(kept["images"]).float() / 127.5 - 1
        return file.stem.split("-")[2], json.loads(str(kept["facts"])), images


def sheet(samples: Tensor) -> str:
    """The first 40 images, ten a line, as a PNG in base64."""
    buffer = io.BytesIO()
    grid_image(samples[:40], columns=10, scale=1, gap=1).quantize(16).save(buffer, "png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


# -- the judge ------------------------------------------------------------------------------------------------------------


def measures(samples: Tensor, real: Tensor) -> dict[str, Any]:
    """The five measures of training/metrics.py, the score of Salimans et al. and the Fréchet distance for endless samples."""
    (seen, said), (of_real, _) = features_and_probabilities(samples), features_and_probabilities(real)
    dice, n = np.random.default_rng(0), len(said)
    spread = np.std([inception_score(said[dice.integers(n, size=n)]) for _ in range(40)], ddof=1)
    return asdict(quality(samples, real)) | {
        "inception": {"value": inception_score(said), "error": float(spread)},
        "frechet_infinity": asdict(frechet_infinity(seen, of_real, parts=(4, 2, 1))),
    }


def distances(x: Tensor, others: Tensor) -> Tensor:
    """From each of x to the nearest of the others, in pixels' values: (N,)."""
    flat = others.flatten(1).double()  # by matrix products, in which single precision would cancel
    return torch.cat([torch.cdist(part, flat).min(1).values for part in x.flatten(1).double().split(250)])


def copies(samples: Tensor, train: Tensor, threshold: Tensor) -> dict[str, Any]:
    """The share of samples that lie nearer to a training image than the threshold, with its standard error."""
    share = float((distances(samples, train) < threshold).float().mean())
    return {"copies": {"value": share, "error": (share * (1 - share) / len(samples)) ** 0.5}}


# -- pictures that no model drew ------------------------------------------------------------------------------------------


def sample_sets(perfect: Tensor, train: Images, test: Images, number: int) -> dict[str, Tensor]:
    """`number` real test images, those of held_out, and what can be made of real images to fool a measure."""
    g = torch.Generator().manual_seed(0)
    first = torch.stack([train.x[train.y == k][0] for k in range(10)])
    index, _ = held_out(torch.arange(len(test.x)).double()[:, None, None, None], len(perfect))
    low = perfect[test.y[index.flatten().long()] < 5]
    few = train.x[torch.randperm(len(train), generator=g)[:50]]
    blurred = F.avg_pool2d(F.pad(perfect, (1, 1, 1, 1), value=-1.0), 3, stride=1)
    return {
        "real": perfect[:number],
        "blurred": blurred[:number],
        "one_a_class": first[torch.arange(number) % 10],
        "only_0_to_4": low[:number],
        "fifty_copies": few[torch.randint(50, (number,), generator=g)],
        "noise": (perfect + 0.3 * torch.randn(perfect.shape, generator=g)).clamp(-1, 1)[:number],
    }
