"""Numbers in a chapter's prose that come from the benchmarks or from the network that ships are what they say."""

import itertools
import math
import re
from collections.abc import Iterator
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
from book_files import NOTEBOOKS, markdown_cells

from diffnotes import Images, Schedule, elbo_terms, load_pretrained, q_posterior
from diffnotes.book.exercises import chapter_03, chapter_04, chapter_09
from diffnotes.book.explorers import gaussians
from diffnotes.book.explorers.gap import account
from diffnotes.book.explorers.posterior import coin_step, humps, slice_and_multiply
from diffnotes.book.press.measured import mean_error, measured
from diffnotes.process.elbo import importance_distribution, mean_and_error
from diffnotes.training.pretrained import WEIGHTS, load_grey

ALL_FRESH = "η = 1: DDPM, variance β-tilde"
PART = {2: "half", 3: "third", 5: "fifth", 6: "sixth", 7: "seventh", 8: "eighth", 10: "tenth"}


def sentences() -> Iterator[tuple[str, str]]:
    """A chapter's number, and words of it, with the figures as they were measured."""
    ablation: dict[str, Any] = measured("ablation")
    rows = ablation["rows"]
    distance = {name: row["frechet"]["value"] for name, row in rows.items()}
    again = [distance[name] for name in ("base", "base_seed_1", "base_seed_2")]
    yield "06", f"They lie between {min(again):.1f} and {max(again):.1f}."
    yield (
        "06",
        f"with *the linear one* the distance is {distance['linear']:.1f}, and *algorithm 1*, otherwise trained as here, comes to",
    )
    yield "06", f"comes to {distance['algorithm_1']:.1f}."
    yield (
        "06",
        f"does better than $\\mathbf v$, {distance['eps_linear']:.1f}, and with the cosine worse, {distance['eps']:.1f}.",
    )
    yield (
        "06",
        f"*uniform times* the distance is {distance['uniform_times']:.1f}, and *Min-SNR weights* at uniform times do not "
        "make up for it.",
    )
    assert abs(distance["min_snr"] - distance["uniform_times"]) < 2 * rows["min_snr"]["frechet"]["error"]
    yield "06", f"*not centred* it is {distance['not_centred']:.1f}."
    yield "06", f"With *AdamW* for Muon it is {distance['adamw']:.1f},"
    yield "06", f"{distance['no_labels']:.1f} against {distance['base']:.1f} is what a label is worth"
    yield "06", f"more updates and draws as well, {distance['no_attention']:.1f}."
    for name in ("independent_times", "raw_weights", "no_attention"):
        assert abs(distance[name] - sum(again) / 3) < max(again) - min(again) + rows[name]["frechet"]["error"]
    made = {name: row["updates"] for name, row in rows.items()}
    more = {name: PART[round(made["base"] / abs(made[name] - made["base"]))] for name in ("adamw", "no_attention")}
    yield "06", f"AdamW is quicker and makes a {more['adamw']} more updates in the time."
    yield "06", f"the network makes an {more['no_attention']} more updates"
    left = {name: PART[round(made["base"] / made[name])] for name in ("patch_1", "channels_48")}
    yield (
        "06",
        f"there is time for a {left['patch_1']} of the updates, and with *48 channels* for {left['channels_48']} of them",
    )

    models = measured("relatives")["rows"]
    off = {name: f"{row['frechet']['value']:.1f}" for name, row in models.items()}
    calls = {name: row["calls"] for name, row in models.items()}
    assert (calls["ddpm"], calls["ddim"], calls["2m"], calls["flow_matching"]) == (50, 20, 8, 20)
    assert off["ddim"] == off["2m"] == off["flow_matching"]
    yield "15", f"DDPM's digits are nearest to the real ones, at {off['ddpm']}, and take fifty calls each;"
    yield "15", f"and flow matching, are at {off['ddim']}, with twenty, eight and twenty."
    yield "15", f"The score SDE is at {off['score_sde']}:"
    yield (
        "15",
        f"has the lowest bits of the table, {models['realnvp']['bits']['value']:.2f}, and is at {off['realnvp']}.",
    )
    assert all(
        row["bits"] is None or row["bits"]["value"] >= models["realnvp"]["bits"]["value"] for row in models.values()
    )
    yield "15", f"it is at {off['vae']}, with a recall of {models['vae']['recall']['value']:.2f}."

    network, _ = load_pretrained("mnist")
    weights = sum(p.numel() for p in network.parameters())
    small, _ = load_pretrained("mnist-small")
    told = [p for name, p in small.named_parameters() if name.startswith("time.") or "scale_shift" in name]
    yield (
        "00",
        f"{weights / 1e6:.1f} million weights, a file of {(WEIGHTS / 'mnist.safetensors').stat().st_size / 1e6:.1f} megabytes",
    )
    yield "05", f"{sum(p.numel() for p in told):,} weights together"

    quality = measured("quality")
    ends = {name: points[-1] for name, points in quality["curves"].items()}
    updates = {name: point["updates"] for name, point in ends.items()}
    last = {name: f"{point['frechet']['value']:.1f}" for name, point in ends.items()}
    sure = {name: f"{100 * point['recognised']['value']:.0f} %" for name, point in ends.items()}
    first = quality["curves"]["ours"][0]
    assert round(first["frechet"]["value"] / ends["ours"]["frechet"]["value"]) == 5
    yield (
        "06",
        f"From {first['updates']} to {updates['ours']} updates the distance falls to a fifth, from "
        f"{first['frechet']['value']:.1f} to {last['ours']}, and the share that is recognised rises from "
        f"{100 * first['recognised']['value']:.0f} to {sure['ours']}.",
    )

    card = [row.split("|")[1:-1] for row in (WEIGHTS / "mnist.md").read_text(encoding="utf-8").splitlines()]
    shares = {row[0].strip(): (row[3].strip(), row[6].strip()) for row in card if len(row) == 7}
    (guided,) = (shares[name] for name in shares if "s = 1.5" in name)
    plain = shares["the same, 2M (`--labels`)"]
    yield "09", f"has {plain[0]} recognised at $s=1$ and {guided[0]} at $s=1.5$, while the recall"
    yield "09", f"falls from {plain[1]} to {guided[1]}"

    steps = {name: curve["uniform"][-1]["frechet"]["value"] for name, curve in measured("steps")["curves"].items()}
    yield "08", f"$\\eta=0$ stays at {steps['DDIM, η = 0']:.0f}, with fifty steps as with a hundred."
    yield "08", f"and it comes down to {steps[ALL_FRESH]:.1f}; with a hundred"


def solutions() -> Iterator[tuple[str, str]]:
    """The same for the solutions of the exercises on sampling, whose numbers no cell prints."""
    linear = Schedule.linear()
    bar = linear.alpha_bar.tolist()

    def two_variances(steps: int) -> tuple[float, float]:
        """What DDPM makes of variance 1 with beta' and with beta-tilde', for data N(0, 1) and the perfect predictor."""
        tau, wide, narrow = linear.subsequence(steps).tolist(), 1.0, 1.0
        for t, s in zip(tau[:0:-1], tau[-2::-1], strict=True):
            alpha = bar[t] / bar[s]
            wide = alpha * wide + (1 - alpha) * (s > 0)
            narrow = alpha * narrow + (1 - bar[s]) / (1 - bar[t]) * (1 - alpha)
        return wide, narrow

    wide, narrow = two_variances(50)
    fit = [n for n in range(2, 200) if two_variances(n)[0] >= 0.98 and two_variances(n)[1] <= 0.9]
    assert fit == list(range(fit[0], fit[-1] + 1))
    yield "07", f"With 50 steps $\\beta'$ keeps {wide:.3f} of the variance and $\\tilde\\beta'$ {narrow:.3f};"
    yield "07", f"any number from {fit[0]} to {fit[-1]} will do."
    first, last = (255 / 2 * math.sqrt(1 - bar[t]) for t in (1, 20))
    yield "07", f"holds 255 steps, that is {first:.1f} grey levels:"
    assert 9.5 < last < 10
    yield "07", "the last stride starts at $t=20$, and the same slip leaves almost ten grey levels."

    ends = []
    for steps in (50, 1000):
        tau, variance = linear.subsequence(steps).tolist(), 1.0
        for t, s in zip(tau[:0:-1], tau[-2::-1], strict=True):
            variance = bar[s] * bar[t] * variance + 1 - bar[s]
        ends.append(variance)
    yield "08", f"On the linear schedule fifty steps end at {ends[0]:.2f}, a thousand at {ends[1]:.2f}."
    yield "08", f"the fourth root of $\\bar\\alpha_T$ is kept, {bar[1000] ** 0.25:.2f}."
    far, near = (math.sqrt((1 - bar[t]) / (1 - bar[t] / bar[s])) for t, s in ((1000, 500), (500, 499)))
    yield "08", f"From 1000 to 500, $\\eta$ may be {far:.4f} at most."
    yield "08", f"From 500 to 499, on the other hand, $\\eta$ may go up to {near:.1f}."
    yield "08", f"for $S=20$ it is {math.cos(math.pi / 40) ** 40:.3f}."
    far_out = Schedule.cosine().snr[[1000, 950]] ** -0.5
    assert far_out.round(decimals=-4)[0] == 20_000
    yield (
        "08",
        f"The first of twenty steps goes from $\\varsigma\\approx20\\,000$ to {far_out[1]:.0f} (cosine schedule),",
    )

    guided = dict(chapter_09._a_lonely_class()[1])["drawn with s = 4"]
    mean, deviation = (part.split()[-1] for part in guided.split(","))
    yield "09", f"With 50 DDIM steps the samples end around {mean} with a standard deviation of {deviation}"
    late = dict(chapter_09._late_guidance()[1])
    plain, pushed = (late[name].split() for name in ("without guidance", "guided for t <= 300"))
    assert (plain[0], late["guided all the way"].split()[0]) == ("50", "0")
    yield "09", f"About {round(int(pushed[0]), -1)} per cent of them now end in the inner cluster, against a half"
    yield "09", f"pushed outwards, by about {float(pushed[-1]) - float(plain[-1]):.1f} on average"


def divergences() -> Iterator[tuple[str, str]]:
    """The KL divergences that appendix A gives in its prose."""

    def kl(*values: float) -> float:
        mu_1, sigma_1, mu_2, sigma_2 = values
        return gaussians.divergence(mu_1, sigma_1, mu_2, sigma_2)

    there, back = kl(0, 2, 0, 0.4), kl(0, 0.4, 0, 2)
    assert 9 < there / back < 10
    yield "90", f"give {there:.1f} nats against {back:.1f}, about nine times"
    there, back = kl(-2, 2, 2, 0.4), kl(2, 0.4, -2, 2)
    assert 19 < there / back < 20
    yield "90", f"give {there:.1f} against {back:.1f}, about nineteen times."
    assert kl(0, 1, 1, 1) == kl(1, 1, 2, 1) == 0.5 and kl(0, 1, 2, 1) == 2
    yield "90", "with unit variances and the means 0, 1 and 2 it is $\\tfrac12$ nat from the first to the second"
    assert posterior_share(4) == 0.2 and posterior_share(0.1) > 0.9
    yield "90", "Make the observation very noisy ($r=4$): its share falls to a fifth"
    yield "90", "Make it sharp ($r=0.1$), and the posterior moves almost onto $y$."
    one, two, three = (math.erf(k / math.sqrt(2)) for k in (1, 2, 3))
    yield "90", f"with probability {one:.3f}, within $2\\sigma$ with {two:.3f} and within $3\\sigma$ with {three:.3f}"
    along, across = (variance / (variance + 0.25) for variance in np.linalg.eigvalsh([[1, 0.8], [0.8, 1]])[::-1])
    yield "90", f"its variance is 1.8, the posterior mean goes {100 * along:.0f} per cent of the way to it"
    yield "90", f"across it, where the prior has variance 0.2, only {100 * across:.0f}."


def latent() -> Iterator[tuple[str, str]]:
    """What the sliders of chapter 10 lead to, and the information of exercise 11.4."""
    here, middle, prior = (account(1.5, m, sigma) for m, sigma in ((0.4, 0.3), (1.2, 0.3), (0, 1)))
    yield "10", f"The KL to the prior goes up, from {here.kl:.2f} nats to {middle.kl:.2f},"
    yield "10", f"goes up by more, from ${here.reconstruction:.2f}$ to ${middle.reconstruction:.2f}$."
    yield "10", f"the KL to the prior is zero, and the gap is {prior.gap:.2f} nats."

    beta = Schedule.linear().beta[1:].tolist()
    omitted = sum(math.log(1 + (1 - b) * a / b) / 2 for a, b in itertools.pairwise(beta))
    yield "11", f"these sum to {omitted:.0f} nats for every pixel."


def posterior_share(r: float) -> float:
    """The weight of an observation of variance r in the posterior's mean, with a prior of variance 1."""
    return 1 / r / (1 + 1 / r)


def test_what_8_10_says_of_the_bars_is_what_was_measured() -> None:
    curves = measured("steps")["curves"]
    none, half, fresh = (curves[name]["uniform"] for name in ("DDIM, η = 0", "DDIM, η = 0.5", ALL_FRESH))

    def apart(measure: str) -> list[int]:
        """The numbers of steps with which the bars of no and all fresh noise do not overlap."""
        pairs = [(one["steps"], one[measure], other[measure]) for one, other in zip(none, fresh, strict=True)]
        return [n for n, a, b in pairs if abs(a["value"] - b["value"]) > a["error"] + b["error"]]

    assert apart("frechet") == [10, 20, 50]
    assert apart("recognised") == [10, 20, 50, 100]
    for low, between, high in zip(fresh, half, none, strict=True):
        assert low["frechet"]["value"] < between["frechet"]["value"] < high["frechet"]["value"]


def test_what_exercise_3_4_says_is_what_it_measures() -> None:
    bits, by_formula = chapter_03._bits, chapter_03._bits_by_formula
    made = chapter_03._sampled_standard_deviation(0.03)
    (path,) = (path for path in NOTEBOOKS if path.name.startswith("03"))
    text = "\n".join(cell.source for _, cell in markdown_cells(path))
    assert f"With $s=0.2$ its bound is {bits(0.2):.1f} bits per dimension" in text
    assert f"with $s=10$, fifty times too large, the bound is {bits(10.0):.1f} bits" in text
    assert f"the formula gives {by_formula(0.03):.1f} bits, averaged over the data" in text
    assert f"The model's bound is smaller, {bits(0.03):.1f}, and" in text
    assert (
        f"have a standard deviation of {made:.3f}, not 0.03, and for that the formula gives {by_formula(made):.1f}"
        in text
    )


def test_digits_in_negative_cost_what_exercise_3_4_says(mnist_test: Images) -> None:
    model, schedule = load_pretrained("mnist-small")
    often = importance_distribution(torch.arange(2, schedule.T + 1).double() ** -2.4, uniform=0.01)
    draws: dict[str, Any] = {"times": 2, "distribution": often, "generator": torch.Generator().manual_seed(0)}
    bits, error = mean_and_error(elbo_terms(model, schedule, -mnist_test.x[:60], **draws).bits_per_dim())
    (path,) = (path for path in NOTEBOOKS if path.name.startswith("03"))
    text = "\n".join(cell.source for _, cell in markdown_cells(path))
    assert "Digits in negative cost the network more than 16 bits, too:" in text and bits - 4 * error > 16


def likelihood() -> Iterator[tuple[str, str]]:
    """The offset, the weights at little noise, and the head of chapter 12."""
    yield "12", f"it adds {math.log2(127.5):.2f} bits"
    assert 0.8 < 127.5 * math.exp(-10 / 2) < 1.2
    yield "12", f"the simple loss has 1/{math.cosh(10 / 2):.0f} of its weight at $\\gamma=0$"
    yield "12", f"\\le{math.ceil(math.log2(100) / 784 * 1e4) / 1e4:.4f}\\ \\text{{bits per dimension}}"
    yield "12", f"$\\log_2100={math.log2(100):.1f}$ bits for the *image*"
    head, _ = load_grey()
    yield "12", f"a head of {sum(p.numel() for p in head.head.parameters()) / 1e6:.1f} million weights"
    low, high = (Schedule.linear().posterior_variance[2], Schedule.linear().beta[2])
    yield (
        "91",
        f"gives {(low + high).item() / 2 / high.item():.2f} of $\\beta_t$ in place of {((low * high).sqrt() / high).item():.2f};",
    )


def transformers() -> Iterator[tuple[str, str]]:
    """The race of chapter 16, and the choices inside the transformer."""
    data = measured("transformers")
    error = {name: f"{mean_error(row):.3f}" for name, row in {**data["rows"], **data["choices"]}.items()}
    rows = data["rows"]
    updates = {name: row["updates"] for name, row in rows.items()}
    yield "16", f"with {data['choices']['as it is']['updates']} updates and one run each"
    yield (
        "16",
        f"ahead of dividing by shape, {error['as it is']} against {error['Muon by shape']}. But AdamW",
    )
    yield (
        "16",
        f"better than both, {error['AdamW for all']}, and so are gates that begin open, {error['gates open']}.",
    )
    yield "16", f"nothing is different yet, {error['without the 3 x 3']}."
    yield (
        "16",
        f"at the end are {error['dit small']} and {error['dit middle']}; those of the U-Nets, from small to large, "
        f"{error['unet small']}, {error['unet middle']} and {error['unet large']}.",
    )
    yield (
        "16",
        f"has made {updates['dit small']} updates, chapter 6's network, the large U-Net, {updates['unet large']}.",
    )
    yield "16", f"the large transformer ends at {error['dit large']}, after {updates['dit large']} updates."
    flops = {name: rows[name]["flops"] / 1e6 for name in ("dit small", "unet small")}
    rate = {name: updates[name] / rows[name]["seconds"] for name in flops}
    yield "16", f"needs {flops['dit small']:.0f} million for an image, the small U-Net {flops['unet small']:.0f},"
    yield "16", f"makes {rate['dit small'] / rate['unet small']:.1f} times as many updates in a second."
    first = [rows[name]["error"][0] for name in ("dit middle", "unet middle")]
    yield "16", f"in the first with {first[0]:.3f} against {first[1]:.3f}, and in the last;"
    distance = [f"{rows[name]['frechet']['value']:.0f}" for name in ("dit small", "dit middle", "unet middle")]
    yield "16", f"distances, {distance[0]} and {distance[1]}, are lower than that of the middle U-Net, {distance[2]}."
    read = [f"{100 * rows[name]['recognised']['value']:.0f}" for name in ("unet middle", "dit small", "dit middle")]
    yield "16", f"{read[0]} per cent against {read[1]} and {read[2]}."
    yield "16", f"at the middle size {updates['adm middle']} for {updates['unet middle']},"
    before, after = rows["unet middle, sum before the norm"], rows["unet middle"]
    k = round(12 * before["updates"] / after["updates"])
    yield (
        "16",
        f"after {before['updates']} updates and with the learning rate all the way down, ends at a training loss of "
        f"{before['curve'][-1][1]:.3f}; with scale and shift the same network was at {after['curve'][k - 1][1]:.3f} "
        f"after {k * after['updates'] // 12},",
    )
    yield "16", f"makes {data['updates']} updates, half a minute."


def latents() -> Iterator[tuple[str, str]]:
    """What chapter 18 says of its benchmark."""
    data: dict[str, Any] = measured("latents")
    k, rows, first = data["scale"]["rows"], data["rows"], data["autoencoder"]
    off = {name: f"{row['frechet']['value']:.1f}" for name, row in k.items()}
    yield (
        "18",
        f"At $k=0.18$ the error of v is the *lowest* of the three, {k['0.18']['loss']:.3f} (not $k$ itself:",
    )
    yield "18", f"and the Fréchet distance the largest, {off['0.18']} against {off['1']};"
    assert min(k, key=lambda name: k[name]["loss"]) == max(k, key=lambda name: k[name]["frechet"]["value"]) == "0.18"
    named = {name: f"{100 * row['right']:.0f} %" for name, row in k.items()}
    yield "18", f"{named['0.18']} of the digits are named as asked against {named['1']},"
    yield "18", f"and what is drawn has {k['0.18']['deviation']:.2f} of the deviation"
    yield (
        "18",
        f"At $k=5.5$ the error is the largest, the distance {off['5.5']}, and only {named['5.5']} are named as asked. "
        "(One run each.)",
    )
    assert min(k, key=lambda name: k[name]["right"]) == "5.5"
    assert max(k, key=lambda name: k[name]["loss"]) == "5.5" and min(off, key=lambda name: float(off[name])) == "1"
    off = {name: f"{row['frechet']['value']:.1f}" for name, row in rows.items()}
    yield (
        "18",
        f"*At equal time, pixels win*: {off['pixel']} for them, {off['latent']} for latents, {off['cascade']} for the cascade,",
    )
    errors = [rows[name]["frechet"]["error"] for name in ("pixel", "latent", "cascade")]
    assert all(0.15 <= error < 0.35 for error in errors)
    yield "18", "with errors of 0.2 to 0.3 and one run each"
    assert (
        rows["drawn_codes"]["frechet"]["value"] - rows["perfect"]["frechet"]["value"]
        < rows["perfect"]["frechet"]["error"] / 2
    )
    cost = {name: data["cost"][name]["mflop"] for name in ("latent", "pixel")}
    took = [rows[name]["drawing_seconds"] for name in ("latent", "pixel")]
    yield (
        "18",
        f"{cost['latent']:.0f} million against {cost['pixel']:.0f}, and 64 digits are drawn in {took[0]:.2f} seconds in place of "
        f"{took[1]:.2f}",
    )
    yield (
        "18",
        f"the rest held {rows['latent']['updates'] - first['updates']} updates, hardly more than the "
        f"{rows['pixel']['updates']} of pixels",
    )
    yield (
        "18",
        f"ruin the latents: {off['clipped']}. And decoded noise is at {rows['random_codes']['frechet']['value']:.0f}.",
    )
    (without,), augmented = data["cascade"]["rows"]["without"], data["cascade"]["rows"]["with"]
    at = {point["s"]: {kind: point[kind]["frechet"]["value"] for kind in ("true", "drawn")} for point in augmented}
    true, drawn = (without[kind]["frechet"]["value"] for kind in ("true", "drawn"))
    yield (
        "18",
        f"nearly perfect on true small images, {true:.1f}, and at {drawn:.1f} on drawn ones: a gap of {drawn - true:.1f},",
    )
    best = min(at, key=lambda s: at[s]["drawn"])
    yield (
        "18",
        f"is at {at[0]['true']:.1f} on true ones; on drawn ones it comes to {at[0]['drawn']:.1f} *without any noise in "
        "sampling*.",
    )
    yield (
        "18",
        f"on true ones its images are off by {augmented[0]['true']['off']:.3f} in place of {without['true']['off']:.3f}.",
    )
    yield (
        "18",
        f"{at[best]['drawn']:.1f} at the best level, $s={best}$, differs from {at[0]['drawn']:.1f} by no more than the errors",
    )
    errors = [point["drawn"]["frechet"]["error"] for point in augmented if point["s"] <= best]
    assert all(abs(at[s]["drawn"] - at[0]["drawn"]) < sum(errors[:2]) for s in at if s <= best)
    yield (
        "18",
        f"from {at[0]['drawn'] - at[0]['true']:.1f} to {at[500]['drawn'] - at[500]['true']:.1f}, but mostly because",
    )
    assert at[500]["true"] - at[0]["true"] > at[500]["drawn"] - at[0]["drawn"] > 0
    yield "18", f"the images leave it, by {augmented[-1]['drawn']['off']:.2f} at $s=500$."
    small = {kind: data["cascade"]["small"][kind]["frechet"]["value"] for kind in ("true", "drawn")}
    yield (
        "18",
        f"are themselves at {small['drawn']:.1f}, true ones at {small['true']:.2f} (first row), and "
        f"{100 * data['cascade']['right']:.0f} % show the digit that was asked for.",
    )
    z, made = ({n: row for n, row in data["prior"][part].items()} for part in ("rows", "drawings"))
    near = {name: row["frechet"]["value"] for name, row in z.items()}
    yield (
        "18",
        f"as those of training images do, {near['prior']:.2f} against {near['train']:.2f}. The mean is at {near['mean']:.2f},",
    )
    yield "18", f"The text's own embedding is at {near['text']:.1f}:"
    yield "18", f"24 numbers of CLIP's 64, with {100 * (1 - data['prior']['left_out']):.1f} % of the variance,"
    kept = {name: row["recall"]["value"] for name, row in made.items()}
    yield (
        "18",
        f"a recall of {kept['mean']:.2f}, against {kept['prior']:.2f} for the prior and {kept['test']:.2f} for true embeddings.",
    )
    apart = abs(made["mean"]["frechet"]["value"] - made["prior"]["frechet"]["value"])
    assert apart < made["prior"]["frechet"]["error"] and made["mean"]["recognised"]["value"] > 0.99


def one_step_back() -> Iterator[tuple[str, str]]:
    """Numbers of chapter 2 that none of its cells prints."""
    linear, hundred, twenty = Schedule.linear(T=1000), Schedule.cosine(T=100), Schedule.cosine(T=20)
    part = [(linear.beta[t] / (1 - linear.alpha_bar[t])).item() for t in (1, 10, 100)]
    assert abs(part[0] - 1) < 1e-9 and round(100 * part[2]) == 2
    yield (
        "02",
        f"all at $t=1$ and, in the linear schedule, a {PART[round(1 / part[1])]} at $t=10$, two per cent at $t=100$.",
    )
    long = 1 - (hundred.alpha_bar[40] / hundred.alpha_bar[20]).item()
    coin = coin_step(hundred.alpha_bar[20].item(), long, x_t=1)
    yield "02", f"Now one start has a probability of {100 * coin.shares.max():.0f} per cent"
    two = (back for back in range(1, 40) if humps(slice_and_multiply(hundred, 40, 40 - back, 0.0).posterior) == 2)
    yield "02", f"they begin with `back` {next(two)}."
    third = (linear.posterior_variance[3] / linear.beta[3]).item()
    yield "02", f"for $t=3$ it is already about {third:.2f}."
    start, present = torch.tensor([[[0.8]], [[-0.4]]], dtype=torch.float64)
    mean, variance = (value.item() for value in q_posterior(twenty, start, present, 10))
    yield "02", f"Both give mean ${mean:.4f}$ and variance ${variance:.4f}$."


def loss() -> Iterator[tuple[str, str]]:
    """The weight of an error with the cosine schedule, and what the solutions of chapter 4 say."""
    cosine, linear = Schedule.cosine(), Schedule.linear()
    factor = cosine.beta[1:] / (2 * cosine.alpha[1:] * (1 - cosine.alpha_bar[1:]))  # sigma_t^2 = beta_t
    powers = (factor.max() / factor.min()).log10().item()
    assert round(powers) == 5 and (factor[-1] / factor[-11]).log10().item() > powers / 2
    yield (
        "04",
        "(With the cosine schedule it runs through five, most of them in the last ten steps.)",
    )
    early, late = ((1 / linear.snr[t]).item() for t in (100, 900))
    assert 3550 < late < 3650
    yield "04", f"{early:.3f} at $t=100$ and about 3,600 at $t=900$"
    below = chapter_04._below_the_irreducible_loss
    new = dict(below(100)[2])["the denoiser's loss on new images"]
    assert all(below(t)[0] for t in (1, 100, 160)) and not below(180)[0]
    yield "04", f"on new ones the loss of this denoiser is {new} at $t=100$"


def bits() -> Iterator[tuple[str, str]]:
    """Bits per dimension: those that chapter 12 takes from chapter 3 and from itself, and what the noise level costs in 13."""

    def stored(chapter: str, pattern: str) -> str:
        (path,) = (path for path in NOTEBOOKS if path.name.startswith(chapter))
        cells = nbformat.read(path, as_version=4).cells
        lines = "\n".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))
        (found,) = re.findall(pattern, lines)
        return f"{float(found):.2f}"

    whole = stored("03", r"([\d.]+) ± [\d.]+ bits per dimension, from 2000 network calls")
    few, head = (stored("12", name + r" +([\d.]+) ± [\d.]+ bits/dim") for name in ("β̃'", "and mixtures in every step"))
    yield "12", f"25 steps with the head | {whole}; {few}; {head} | bound |"
    yield "13", f"\\cdot0.02\\cdot127.5)={math.log2(math.sqrt(2 * math.pi) * 0.02 * 127.5):.1f}$ bits"


PROSE = [
    *one_step_back(),
    *loss(),
    *sentences(),
    *solutions(),
    *divergences(),
    *latent(),
    *likelihood(),
    *transformers(),
    *latents(),
    *bits(),
]


@pytest.mark.parametrize(("chapter", "words"), PROSE)
def test_the_chapter_says_what_was_measured(chapter: str, words: str) -> None:
    (path,) = (path for path in NOTEBOOKS if path.name.startswith(chapter))
    assert words in "\n".join(cell.source for _, cell in markdown_cells(path))


def test_what_chapter_21_reads_off_the_portrait_holds():
    data = measured("portrait")
    one, three, ten = (data["rows"][budget] for budget in ("1", "3", "10"))
    made = next(part for part in data.values() if isinstance(part, dict) and "one_a_class" in part)

    def of(key: str, rows: dict[str, Any] = three) -> dict[str, float]:
        return {name: row[key]["value"] for name, row in rows.items()}

    distance, recall, precision = of("frechet_infinity"), of("recall"), of("precision")
    others = [value for name, value in distance.items() if name != "guided"]
    assert 0.3 < distance["guided"] / distance["ddpm"] < 0.37 and distance["ddpm"] == min(others)
    assert max(of("recognised"), key=of("recognised").__getitem__) == "guided"
    assert recall["guided"] < min(recall[name] for name in ("ddpm", "ddim", "dpm_solver"))
    alike = [distance[name] for name in ("gan_labels", "ddim", "dpm_solver", "flow_matching", "latent")]
    assert max(alike) - min(alike) < 0.7 and min(alike) == distance["gan_labels"]
    assert (three["dpm_solver"]["calls"], three["ddim"]["calls"]) == (8, 20)
    assert three["gan_labels"]["drawing_seconds"] < three["ddim"]["drawing_seconds"] / 100
    assert 2.8 < distance["gan"] / distance["gan_labels"] < 3
    ranked = sorted(distance, key=distance.__getitem__)
    assert ranked[-2:] == ["realnvp", "consistency"] and distance["gan"] < distance["realnvp"] / 2
    bits = {name: row["bits"]["value"] for name, row in three.items() if row["bits"]}
    assert min(bits, key=bits.__getitem__) == "realnvp" and sorted(bits.values())[1] > bits["realnvp"] + 0.4
    assert made["one_a_class"]["inception"]["value"] > max(
        made["real"]["inception"]["value"], *of("inception").values()
    )
    errors = {name: row["frechet_infinity"]["error"] for name, row in three.items()}
    one_a_class = made["one_a_class"]["frechet_infinity"]

    def beyond(more: str, value: float, error: float) -> bool:
        return distance[more] - value > 2 * math.hypot(errors[more], error)

    worse = [name for name in distance if beyond(name, one_a_class["value"], one_a_class["error"])]
    assert (len(worse), len(distance)) == (8, 16) and made["one_a_class"]["copies"]["value"] == 1
    assert made["one_a_class"]["recall"]["value"] == 0 and f"{made['one_a_class']['frechet']['value']:.1f}" == "3.7"
    assert made["blurred"]["recall"]["value"] < made["real"]["recall"]["value"] / 2
    copies = [row["copies"]["value"] for rows in (one, three, ten) for row in rows.values()]
    assert max(copies) <= made["real"]["copies"]["value"] + 1e-6
    low = sorted(recall, key=recall.__getitem__)[:3]
    assert sorted(low[:2]) == ["consistency", "vae"] and low[2] == "cascade" and max(recall[n] for n in low[:2]) < 0.05
    high = [name for name, value in recall.items() if value > made["real"]["recall"]["value"] - 0.01]
    assert sorted(high) == ["gan", "vq_pixelcnn"] and max(precision[name] for name in high) < 0.76
    early, late = of("frechet_infinity", one), of("frechet_infinity", ten)
    assert min(early, key=early.__getitem__) == "latent" and one["cascade"]["recognised"]["value"] < 0.01
    level = [late[name] for name in ("cascade", "vq_pixelcnn", "latent", "ddpm")]
    assert max(level) - min(level) < 0.1 and sorted(late, key=late.__getitem__)[:5] == [
        "guided",
        *sorted(("cascade", "vq_pixelcnn", "latent", "ddpm"), key=late.__getitem__),
    ]
    assert abs(late["guided"]) < ten["guided"]["frechet_infinity"]["error"]
    back = [name for name in late if late[name] > distance[name]]
    assert sorted(back) == ["gan_labels", "vae"] and f"{late['gan_labels'] - distance['gan_labels']:.1f}" == "1.3"
    assert late["gan"] < distance["gan"] / 2 and late["consistency"] > 6


def test_the_times_that_chapter_21_names_are_those_of_the_portrait():
    rows = measured("portrait")["rows"]
    seconds = {budget: [row["training_seconds"] for row in of.values()] for budget, of in rows.items()}
    ends = {budget: [round(end(of)) for end in (min, max)] for budget, of in seconds.items()}
    assert (
        ends == {"1": [18, 23], "3": [55, 69], "10": [188, 244]} and round(rows["3"]["ddpm"]["training_seconds"]) == 59
    )
    (path,) = (path for path in NOTEBOOKS if path.name.startswith("21"))
    prose = "\n".join(cell.source for _, cell in markdown_cells(path))
    ddpm = rows["3"]["ddpm"]["updates"]
    assert f"that network made {ddpm} in 59 seconds (the row of DDPM), and every model gets 55 to 69" in prose
    assert '18 to 23 seconds here, and "ten minutes" that of 2,800, 188 to 244 seconds' in prose
