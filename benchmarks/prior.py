"""A prior over embeddings, and the images that are drawn from them: caption -> embedding -> image, at the smallest."""

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.latents import in_parts, trained
from benchmarks.measure import Budget, pace
from benchmarks.networks import parameters
from benchmarks.quality import OWN
from diffnotes import Images, ddim_sample, initial_noise
from diffnotes.models.mlp import MLPDenoiser
from diffnotes.process.given import Given
from diffnotes.process.latent import Projection
from diffnotes.training.attributes import attribute_words
from diffnotes.training.captions import captioned, parts_of
from diffnotes.training.latents import Codes
from diffnotes.training.metrics import features_and_probabilities, frechet_distance, held_out, quality
from diffnotes.training.train_latents import KEEP, SCHEDULE, clip, decoder, embeddings, prior, text_table

SHARES = {"clip": 1 / 4, "prior": 1 / 8, "decoder": 1.0}  # of the time of chapter 6's network


def draw_embeddings(model: MLPDenoiser, y: Tensor, seed: int, steps: int = 50) -> Tensor:
    """Embeddings for these captions."""
    with torch.no_grad():
        *_, frame = ddim_sample(model, SCHEDULE, initial_noise(seed, len(y), (model.dim,)), steps=steps, y=y)
    return frame.x_t


def measure(budget: Budget, train: Images, test: Images) -> dict[str, Any]:
    """The prior's embeddings beside those of test images, the mean of the caption and the text's own; and digits
    decoded from each of them. The times are shares of that in which chapter 6's network makes the last of budget.own updates."""
    return measured(budget, train, test)[0]


def measured(budget: Budget, train: Images, test: Images) -> tuple[dict[str, Any], dict[str, Any]]:
    """The numbers and the networks."""
    unit = budget.own[-1] * pace(OWN["ours"].make(train).steps(updates=1000))
    pairs, asked = captioned(train), captioned(test)
    seconds = {}
    seconds["clip"], clip_updates, model = trained(lambda: clip(pairs), SHARES["clip"] * unit)
    e, e_test, texts = embeddings(model, train), embeddings(model, test), text_table(model)
    projection = Projection.measure(e, KEEP)
    z, z_test = projection.into(e), projection.into(e_test)
    codes = Codes(z, pairs.y, "embeddings", f"of {train.name}, by a CLIP")
    seconds["prior"], prior_updates, mlp = trained(lambda: prior(codes, texts), SHARES["prior"] * unit)
    seconds["decoder"], decoder_updates, unet = trained(
        lambda: decoder(replace(codes, images=train.x)), SHARES["decoder"] * unit
    )

    means = {int(c): z[pairs.y == c].mean(0) for c in asked.y.unique() if bool((pairs.y == c).any())}
    known = torch.tensor([int(c) in means for c in asked.y])
    y, real_z = asked.y[known], z_test[known]
    sets = {
        "test": real_z,
        "train": z[torch.randperm(len(z), generator=torch.Generator().manual_seed(0))[: len(y)]],
        "prior": draw_embeddings(mlp, y, 0),
        "mean": torch.stack([means[int(c)] for c in y]),
        "text": projection.into(texts[y]),
    }
    dice, rows = np.random.default_rng(0), {}
    reference = real_z.double().numpy()
    for name, values in sets.items():
        found = values.double().numpy()
        tries = [frechet_distance(found[dice.integers(len(found), size=len(found))], reference) for _ in range(20)]
        rows[name] = {
            "frechet": {"value": frechet_distance(found, reference), "error": float(np.std(tries, ddof=1))},
            "square": float(values.double().square().sum(1).mean()),
            "length": float(projection.back(values).norm(dim=1).mean()),
            "within": within(values, y if name != "train" else None),
        }
    n = min(budget.many, len(y))
    start, some = initial_noise(5, n), slice(0, n)
    _, real = held_out(test.x, min(budget.perfect, len(test) // 4))
    drawings = {}
    for name in ("test", "prior", "mean", "text"):
        vectors = sets[name][some]

        def finish(i: slice, vectors: Tensor = vectors) -> Tensor:
            *_, frame = ddim_sample(
                Given(unet, vector=vectors[i]), SCHEDULE, start[i], steps=20, eta=1.0, clip=True, generator=6 + i.start
            )
            return frame.x_t

        x = in_parts(n, finish)
        drawings[name] = {**asdict(quality(x, real)), **obeyed(x, y[some])}
        print(f"  decoded from {name}: {drawings[name]}", flush=True)
    share = 1 - projection.scale**2 * KEEP / float((e - e.mean(0)).square().sum(1).mean())
    with torch.no_grad():
        matched = float((e_test * model.text(asked.y)).sum(1).mean())
        other = float((e_test * model.text(asked.y.roll(1))).sum(1).mean())
        gap = float((e_test.mean(0) - model.text(asked.y).mean(0)).norm())
    data = {
        "keep": KEEP,
        "left_out": share,
        "captions": len(means),
        "embeddings": len(y),
        "samples": n,
        "seconds": seconds,
        "updates": {"clip": clip_updates, "prior": prior_updates, "decoder": decoder_updates},
        "parameters": {"clip": parameters(model), "prior": parameters(mlp), "decoder": parameters(unet)},
        "cosine": {"matched": matched, "others": other, "gap_of_the_means": gap},
        "rows": rows,
        "drawings": drawings,
    }
    return data, {"clip": model, "projection": projection, "prior": mlp, "decoder": unet}


def within(z: Tensor, y: Tensor | None) -> float | None:
    """The share of the variance that lies within the captions (book, eq. 18.15); None without captions."""
    if y is None:
        return None
    rest = torch.cat([z[y == c] - z[y == c].mean(0) for c in y.unique()])
    return float(rest.square().sum(1).mean() / (z - z.mean(0)).square().sum(1).mean())


def obeyed(x: Tensor, y: Tensor) -> dict[str, float]:
    """How many drawings have the digit, the thickness and the slant that the caption says."""
    said = parts_of(y)
    named = torch.as_tensor(features_and_probabilities(x)[1].argmax(1))
    words = attribute_words(x.clamp(-1, 1))
    shares = {"digit": named == said[:, 0], "thickness": words[:, 0] == said[:, 1], "slant": words[:, 2] == said[:, 3]}
    return {name: float(right.double().mean()) for name, right in shares.items()}
