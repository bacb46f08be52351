"""The page and its figures, made from results.json and from nothing else."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from diffnotes.book.press import measured_latents, portrait
from diffnotes.book.press.measured import (
    CHOICES,
    TITLES,
    ablation_table,
    number,
    plain_ticks,
    quality_alt,
    quality_figure,
    relatives_table,
    steps_figure,
    transformer_choices,
    transformer_table,
    with_error,
)

RECIPES = {
    "ours": "ours: v, cosine, logit-normal times, centred input, {optimizer}, labels, dropped for one image in ten",
    "ours_guided": "the same networks, sampled with classifier-free guidance of scale {guidance:g} (two calls for each step)",
    "course": "the course's (unit 2): ε, cosine, Adam 1e-3, batch 128, labels",
    "ddpm_pytorch": "its defaults: weighted v, sigmoid, Adam 8e-5, EMA 0.995",
    "large": "the course's (unit 1): ε, cosine, AdamW 4e-4, batch 64",
    "course_our_recipe": "ours: v, cosine, logit-normal times, {optimizer}, labels, dropped for one image in ten",
    "ours_no_labels": "ours, but without labels",
    "ours_clusters": "ours, but no labels: in their place the numbers of 50 clusters, found by k-means from the pixels; to draw, "
    "first a cluster with its share of the images, then an image of it",
    "ours_clusters_guided": "the same, guided towards the cluster with scale {guidance:g}",
    "ours_eps_linear": "ours, but algorithm 1 as it stands: ε, linear schedule, uniform times, no weights",
}
SOLVERS = {
    "dpm++": "DPM-Solver++(2M)",
    "sde-dpm++": "SDE-DPM-Solver++(2M)",
    "heun": "Heun",
    "ddim": "DDIM",
    "ddpm": "DDPM",
}
OPTIMIZERS = {"muon": "Muon", "adamw": "AdamW"}
SECTIONS = (
    "quality",
    "steps",
    "ablation",
    "relatives",
    "transformers",
    "latents",
    "portrait",
    "throughput",
    "cost",
    "sampling",
    "start",
    "gpu",
)
HEAD = """# Benchmarks

<!-- Written by python -m benchmarks from benchmarks/results.json. Edit benchmarks/report.py instead. -->

Is a network that was written to be read slow? Does it learn? This page puts it beside two implementations that many people
learn from: [diffusers](https://github.com/huggingface/diffusers), with the network that the Hugging Face diffusion course
builds for MNIST and with a larger one, and
[denoising-diffusion-pytorch](https://github.com/lucidrains/denoising-diffusion-pytorch). And it looks at our own network
alone: how many sampling steps it needs, and what each choice in its training is worth. All that is here comes from one
command; the numbers below took {minutes} minutes:

```
make bench                               # everything
.venv/bin/python -m benchmarks quality   # one section ({names}), the others stay
.venv/bin/python -m benchmarks --render  # no measuring: this page and its figures again, from the numbers
```

The numbers, with their settings, are in [results.json](benchmarks/results.json). Things that are compared take turns within
one process, so that a slow minute of the machine is slow for all. A number followed by a bracket is a median and its
quartiles.

{where}
"""


def render(results: dict[str, Any]) -> str:
    """The whole page, as Markdown."""
    minutes = sum(section["took_seconds"] for section in results.values()) / 60
    head = HEAD.format(minutes=f"{minutes:.0f}", names=", ".join(SECTIONS), where=_where(results))
    parts = [head, *(globals()[f"_{name}"](results[name]["data"]) for name in SECTIONS if name in results)]
    parts.append(_when(results))
    return "\n".join(part.strip() + "\n" for part in parts)


# -- small parts ----------------------------------------------------------------------------------------------------------


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _spread(value: dict[str, float], scale: float = 1.0) -> str:
    low, median, high = (number(value[key] * scale) for key in ("low", "median", "high"))
    return f"{median} ({low}{' to ' if low.startswith('-') else '–'}{high})"


def _sampler(data: dict[str, Any]) -> str:
    """The steps and the sampler that the samples of a section were drawn with."""
    solver = data.get("solver", "ddim")  # sections measured before there was a choice do not say
    eta = f" with η = {data['eta']:g}" if solver == "ddim" and "eta" in data else ""
    return f"{data['steps']} {SOLVERS[solver]} steps{eta}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _where(results: dict[str, Any]) -> str:
    machines = []
    for section in results.values():
        m = section["machine"]
        text = f"{m['cpu']}, {m['cores']} cores, {m['memory_gib']:.0f} GiB of memory"
        text += f", {m['gpu']}" if m["gpu"] else ""
        machines += [text] if text not in machines else []
    text = f"The machine: {'; and '.join(machines)}. More about it is at the end."
    trials = [name for name in SECTIONS if name in results and results[name]["trial"]]
    if trials:
        text += (
            f"\n\n**These are trial numbers** ({', '.join(trials)}): from runs of seconds with tiny budgets, to show the form "
            "of this page. They say nothing about any network."
        )
    missing = [name for name in SECTIONS if name not in results]
    if missing:
        text += f"\n\nNot measured yet: {', '.join(missing)}."
    return text


def _when(results: dict[str, Any]) -> str:
    rows = []
    for name in SECTIONS:
        if name in results:
            m = results[name]["machine"]
            rows.append([
                name, m["date"], _duration(results[name]["took_seconds"]), str(m["threads"]), f"{m['load_before']:.1f}",
                m["python"], m["torch"], m["diffusers"] or "–", m["denoising-diffusion-pytorch"] or "–",
            ])  # fmt: skip
    head = [
        "section",
        "date",
        "took",
        "threads",
        "load before",
        "Python",
        "torch",
        "diffusers",
        "denoising-diffusion-pytorch",
    ]
    return f"""
## When, and with what

{_table(head, rows)}

"Load before" is how many processes wanted a core in the minute before: 0 on an idle machine.
"""


# -- the sections ---------------------------------------------------------------------------------------------------------


def _quality(data: dict[str, Any]) -> str:
    rows = []
    for name, points in data["curves"].items():
        for point in points:
            runs = f", mean of {len(point['frechet']['runs'])} runs" if "runs" in point["frechet"] else ""
            rows.append([
                TITLES[name] + runs, f"{point['in_our_updates']:.0f}", f"{point['updates']:,}",
                *(with_error(point[key]) for key in ("frechet", "recognised", "precision", "recall")),
                f"{point['sampling_seconds']:.1f} s",
            ])  # fmt: skip
    perfect = data["perfect"]
    values = [with_error(perfect[key]) for key in ("frechet", "recognised", "precision", "recall")]
    rows.append([f"*{TITLES['perfect']}*", "", "", *values, ""])
    head = ["network", "time", "updates", "Fréchet d² ↓", "recognised ↑", "precision ↑", "recall ↑", "sampling"]
    own = data["own_recipe"]
    optimizer, guidance = OPTIMIZERS[own.get("optimizer", "adamw")], data["guidance"]
    recipes = "\n".join(
        f"- **{TITLES[name]}**: {RECIPES[name].format(optimizer=optimizer, guidance=guidance)}."
        for name in data["curves"]
    )
    precision = "bfloat16" if data["bfloat16"] else "float32"
    last = {name: points[-1]["frechet"]["value"] for name, points in data["curves"].items()}
    return f"""
## Quality after the same time

A reader of chapter 6 has three minutes. How many updates of its network these hold depends on the processor: on two cores
of one without bfloat16 they held 840, and one minute 288; where there is bfloat16 they hold several times as many. So time is
counted in updates of ours: every network starts from random weights, on the same MNIST, and gets the time in which ours makes
{data["own"][-1]} of them, here {data["seconds"]:.0f} seconds of one core; time for anything else does not count. Then each
draws {data["samples"]} digits from the same noise in {_sampler(data)}, through the same sampler,
which cuts each prediction of the image to the
range of pixels, as the peers' own samplers do (0 to 9 in turn, where the network was trained with labels), and
a classifier that none of them has seen looks at them. Its features of the samples are compared with those of
{data["real"]:,} test images: the Fréchet distance d² (0 is best; equation 6.6 of the book, a squared distance, and the number
that is called FID where the features are those of the Inception network), the share of samples that it recognises with more
than 95 % certainty, the share of samples that lie among real images (precision), and the share of real images that lie among
samples (recall). The last row shows what real handwriting gets, from as many images: no row can
be expected to do better.

{_table(head, rows)}

![{quality_alt(data)}](benchmarks/quality.png)

![Sheets of 64 digits, one for each network at the end of its training, and one of real digits.](benchmarks/samples.png)

Each trains by the recipe of its own documentation:

{recipes}

Ours in full: batches of {own["batch_size"]}, {optimizer} with a learning rate that rises to {own["learning_rate"]:g} over
{own["warmup"]} updates and falls to 0 over the budget, weights averaged with {own["ema_decay"]}, computed in {precision}
(the peers in float32). Because our learning rate depends on the budget, each of our points is a run of its own, and the
rows that say so are the mean of {data["seeds"]} runs from different seeds, with the standard error of that mean; the
peers' points are looked at along one run.

**What it means.** At the end of training, from best to worst: {_ranking(last)}. {_apart(last)}

**What it does not mean.** Nobody designed the peers for three minutes on a laptop: they have more parameters, and on a GPU
and after hours the order may be another. Where a row is one run, its errors are those of drawing
{data["samples"]} samples, not of training again. Their averages and learning rates are meant for long runs. And all
measures see through one small classifier of digits: it can be sure of a shape that is no digit at all, so "recognised"
counts for something only where precision is high as well. And cutting the predictions to the range of pixels makes the samples
of a network that has just begun to learn worse, so a distance near that of noise
says that a network is at its beginning, and not more.
"""


def _ranking(last: dict[str, float]) -> str:
    return ", ".join(f"{TITLES[name]} ({value:.1f})" for name, value in sorted(last.items(), key=lambda item: item[1]))


def _apart(last: dict[str, float]) -> str:
    if not {"ours", "course", "course_our_recipe"} <= last.keys():
        return ""
    recipe, network = last["course"] / last["course_our_recipe"], last["course_our_recipe"] / last["ours"]
    return (
        "Two rows take the comparison with the course apart. Its network in our recipe is at "
        f"{last['course_our_recipe']:.1f} instead of {last['course']:.1f} (the recipe's share: a factor of {recipe:.2g}); ours "
        f"in the same recipe is at {last['ours']:.1f} (the network's share: a factor of {network:.2g}). A factor below 1 "
        "speaks for theirs."
    )


def _steps(data: dict[str, Any]) -> str:
    numbers = [str(point["steps"]) for point in next(iter(data["curves"].values()))["uniform"]]
    perfect, karras = data["perfect"], data.get("karras", {})

    def table(measure: str) -> str:
        rows = [
            [name, spacing, *(with_error(point[measure]) for point in points)]
            for name, curve in data["curves"].items()
            for spacing, points in curve.items()
        ]
        rows += [[name, "Karras", *(with_error(point[measure]) for point in points)] for name, points in karras.items()]
        rows.append([f"*{TITLES['perfect']}*", "", *[with_error(perfect[measure])] * len(numbers)])
        return _table(["sampler", "spacing", *numbers], rows)

    few = {name: curve["uniform"][0]["frechet"]["value"] for name, curve in data["curves"].items()}
    many = {name: curve["uniform"][-1]["frechet"]["value"] for name, curve in data["curves"].items()}
    factors = [
        quadratic["frechet"]["value"] / uniform["frechet"]["value"]
        for curve in data["curves"].values()
        for uniform, quadratic in zip(curve["uniform"], curve["quadratic"], strict=True)
    ]
    more, clipped = _solvers(karras), "" if data["clip"] else "not "
    return f"""
## How many sampling steps?

`load_pretrained("mnist-small")`, a network of {data["parameters"]:,} parameters (target {data["target"]}, {data["schedule"]}
schedule), draws {data["samples"]} digits without labels, always from the same initial noise. What changes is the sampler:
DDIM without fresh noise (η = 0), with half of DDPM's (η = 0.5), with all of it (η = 1; that *is* DDPM with the variance
β-tilde), and DDPM with its other variance, β; the times that are visited, evenly spaced ("uniform") or dense near the image
("quadratic"); and how many they are.{more} The predicted image is {clipped}cut to [-1, 1] at every step, for
all of them. The measures are those above, against {data["real"]:,} test images, and the last row is what as many real
images get. The Fréchet distance (0 is best) against the number of steps:

{table("frechet")}

The share that the classifier recognises:

{table("recognised")}

![Two panels over the number of sampling steps: Fréchet distance and share recognised, a colour for each sampler, solid for
uniform and dashed for quadratic spacing; a dotted line for real images.](benchmarks/steps.png)

**What it means.** With {numbers[0]} evenly spaced steps, from best to worst: {_order(few)}. With {numbers[-1]}:
{_order(many)}. What a sampler brings in as fresh noise has to be removed again by the steps that follow; with few of them,
and most of all with the larger variance β, some of it stays. The quadratic spacing multiplies the Fréchet distance by
something between {min(factors):.2f} and {max(factors):.2f} (below 1 it is the better one).

**What it does not mean.** The errors are those of drawing {data["samples"]} samples: differences within two of them
are not significant. It is one network. One that was trained for longer, or with another target or schedule (the
quadratic spacing comes from work with the linear schedule), may have another order.
"""


def _solvers(karras: dict[str, Any]) -> str:
    """What the rows of the solvers of second order are, if they were measured."""
    if not karras:
        return ""
    return (
        "\nThe two rows before the last are chapter 14's solvers of second order, DPM-Solver++(2M) without fresh noise and its\n"
        "stochastic form with it, at the times of Karras' grid. Every sampler here calls the network once a step, so a column\n"
        "compares equal numbers of calls."
    )


def _order(values: dict[str, float]) -> str:
    return ", ".join(f"{name} ({value:.1f})" for name, value in sorted(values.items(), key=lambda item: item[1]))


def _ablation(data: dict[str, Any]) -> str:
    names = [name for name in CHOICES if name in data["rows"]]
    distance = {name: data["rows"][name]["frechet"] for name in names}
    same = [distance[name]["value"] for name in ("base", "base_seed_1", "base_seed_2") if name in names]
    middle = sum(same) / len(same)
    apart = max(max(same) - min(same), 2 * max(distance[name]["error"] for name in names if name.startswith("base")))
    changes = {CHOICES[name]: distance[name]["value"] for name in names if not name.startswith("base")}
    worse = {name: value for name, value in changes.items() if value > middle + apart}
    better = {name: value for name, value in changes.items() if value < middle - apart}
    steps, _, sampler = _sampler(data).partition(" ")
    threads = "one thread" if data["threads"] == 1 else f"{data['threads']} threads"
    return f"""
## What each choice is worth

The run of chapter 6 makes many choices. Here each of some is taken back, one at a time: the same images, the time in which
the run as it is makes {data["updates"]} updates (two minutes on two cores without bfloat16; here {data["seconds"]:.0f} seconds
in {threads}), training from random weights, then {data["samples"]} digits, 0 to 9 in turn, in {steps}
{sampler}. So a change that makes an update slower leaves fewer of them. The run as it is stands
there with three seeds: how far these lie apart is what chance does on its own.

{_table(*ablation_table(data))}

The weights and their average come from one and the same run, the first.

**What it means.** The runs of the network as it is have Fréchet distances between {min(same):.1f} and {max(same):.1f}. We call a
change visible if it is further than {apart:.1f} from their mean (the distance between these two, or twice a standard error,
whichever is larger). By that rule {f"these are worse: {_order(worse)}" if worse else "nothing is worse"}; and
{f"these are better: {_order(better)}" if better else "nothing is better"}.

**What it does not mean.** Every row is one run. So little time favours what is quick: more channels, whole
pixels and large batches have their best time after the end of this table. The learning rate was chosen for the run as it
is, and for AdamW from a few; the other rows keep it. And the unconditional network has the harder task:
no label settles what it draws.
"""


def _relatives(data: dict[str, Any]) -> str:
    threads = "one thread" if data["threads"] == 1 else f"{data['threads']} threads"
    return f"""
## The relatives side by side

The models of the book, trained from random weights on the same images for the same time, that in which chapter 6's network
makes {data["updates"]} updates ({data["seconds"]:.0f} seconds of {threads}); three rows are one network with three samplers. Then
{data["samples"]} digits, 0 to 9 in turn where a model takes labels, judged against {data["real"]:,} test images.

{_table(*relatives_table(data))}

Bits per dimension are those of {data["bits_images"]} test images given their labels: of the diffusion models the variational
bound of a chain of 25 strides with the variance β-tilde, of RealNVP the density of dequantised images, itself an upper bound of
the bits of the grey values. DDIM and 2M draw with the same network as DDPM. The VAE's data are black and white: its bits are of
other data, and do not belong here. Its samples are its decoder's mean images, drawn without a label.

**What it does not mean.** One run each, a minute or three of training, settings chosen in the chapters and not for this table. A
plane is a small latent space, and no coupling layer looks far. What the rows show is what each idea comes to in this time.
"""


def _transformers(data: dict[str, Any]) -> str:
    threads = "one thread" if data["threads"] == 1 else f"{data['threads']} threads"
    return f"""
## Transformers and U-Nets

U-Nets and transformers of three sizes, trained by the recipe of chapter 6 for the same time, that in which its network makes
{data["updates"]} updates ({data["seconds"]:.0f} seconds of {threads}; the pace of each was measured beforehand): the
U-Net with 8, 16 and 32 channels, the last of which is chapter 6's; the same as in ADM, with attention at both sizes of the
feature maps and heads of 8 channels; and a diffusion
transformer with patches of 4 × 4 pixels, of width 32, 48 and 96 with 3, 4 and 6 blocks. Operations are those of forward and
backward passes, two for a product and a sum. The error of v is a mean over uniform times, on {data["images_of_the_error"]} test
images for each tenth of them; {data["samples"]} digits were drawn in {data["steps"]} steps.

{_table(*transformer_table(data))}

And what the choices inside the middle transformer are worth, after the same number of updates. *Muon by shape*: for every weight
with 16 rows and columns, also outside the blocks. *Gates open*: they begin at 1, not at 0.

{_table(*transformer_choices(data))}

**What it does not mean.** The very beginning of the curve, where hardly a network draws digits yet, and one run each: the
learning rate is the same for all sizes, and was chosen for chapter 6's network.
"""


def _latents(data: dict[str, Any]) -> str:
    threads = "one thread" if data["threads"] == 1 else f"{data['threads']} threads"
    first, cost, prior, stages = data["autoencoder"], data["cost"], data["prior"], data["cascade"]
    return f"""
## Latents, cascades, and a prior over embeddings

Chapter 18. Three ways to make digits, from random weights, each in the time in which chapter 6's network makes
{data["updates"]} updates ({data["seconds"]:.0f} seconds of {threads}): in pixels; by an autoencoder, for a fifth of the time, and
diffusion of its codes, the encoding of all images included; by a cascade, 14 × 14 pixels first, for 55 % of the time, and then
28 × 28. {data["samples"]} digits each, 0 to 9 in turn, by 20 DDIM steps with η = 1 in each stage, predictions cut to [-1, 1] in
pixels and not in codes, judged against {data["real"]:,} test images.

{_table(*measured_latents.latents_table(data))}

The autoencoder has {first["parameters"]:,} weights, θ = {first["theta"]:g} and {first["updates"]:,} updates of 64 images: a
rate of {first["rate_nats"]:.0f} nats, a squared error of {first["error_of_a_pixel"]:.4f} a pixel, codes of deviation
{first["scale"]:.3f} (of the means alone {first["scale_of_the_means"]:.3f}). A forward pass for an image takes
{cost["latent"]["milliseconds"]:.2f} milliseconds in latents ({cost["latent"]["mflop"]:.0f} MFLOP),
{cost["pixel"]["milliseconds"]:.2f} in pixels ({cost["pixel"]["mflop"]:.0f}).

The latents times k, {data["scale"]["updates"]} updates each, what is drawn divided by k:

{_table(*measured_latents.scale_table(data))}

The second stage of a cascade on true small images and on drawn ones, {stages["updates"]} updates each, without augmentation
and with levels s from 0 to {stages["most"]}. The drawn small images, enlarged, are named as asked in {stages["right"]:.0%}, and
their Fréchet distance from enlarged test images is {stages["small"]["drawn"]["frechet"]["value"]:.1f}
({stages["small"]["true"]["frechet"]["value"]:.1f} for true ones).

{_table(*measured_latents.gap_table(data))}

What stands in the place of the embedding of a test image, {prior["keep"]} principal components of a CLIP's 64 numbers, for
{prior["embeddings"]:,} test images and the {prior["captions"]} captions of digit, thickness and slant that they have; and
{prior["samples"]} digits decoded from each. CLIP, prior and decoder had {prior["seconds"]["clip"]:.0f},
{prior["seconds"]["prior"]:.0f} and {prior["seconds"]["decoder"]:.0f} seconds.

{_table(*measured_latents.prior_table(data))}

**What it does not mean.** One run each. Digits of 28 × 28 pixels are no photographs: what latents save grows with the size of the
image, and here a network that folds 2 × 2 pixels into channels has a small map already.
"""


def _portrait(data: dict[str, Any]) -> str:
    threads = "one thread" if data["threads"] == 1 else f"{data['threads']} threads"
    largest = _middle(data)
    times = ", ".join(
        f"{name}: {data['budgets'][name]:.0f} s, {n:,} updates" for name, n in data["updates_of_ours"].items()
    )
    others = [
        f"""After {name} (as many minutes of two cores, or {data["budgets"][name]:.0f} seconds of {threads}):

{_table(*portrait.judged_table({**data, "sample_sets": {"one_a_class": data["sample_sets"]["one_a_class"]}}, name))}"""
        for name in data["rows"]
        if name != largest
    ]
    return f"""
## A family portrait

Chapter 21. Every model of the book that draws digits, from random weights, with the same time: that in which chapter 6's network
makes so many updates (budget: seconds of {threads}, updates): {times}. Then {data["samples"]:,} digits each, 0 to 9 in turn
where a model takes labels, judged against {data["real"]:,} test images; guided: s = {data["guidance"]:g}. Below the models, six
sample sets that no model drew: each of them fools one of the columns.

{_table(*portrait.judged_table(data, largest))}

What they cost, for the same budget. Bits per dimension are those of {data["bits_images"]} test images given their labels, a bound
(≤) for diffusion models and for dequantised images; a GAN has none, and the VAE's and the VQ-VAE's are of other data.

{_table(*portrait.cost_table(data, largest))}

![Forty digits of each model of the family portrait, and of the sample sets that no model drew](benchmarks/portrait.png)

{(chr(10) * 2).join(others)}

**What the columns are.** Fréchet: of {data["samples"]:,} samples; extrapolated: the intercept of a line through the distances of
parts of them in 1/n (book, eq. 21.12). IS: the Inception Score's formula with the classifier of MNIST. Copies: samples nearer
to a training image than all but one in a hundred test images are, in pixels; smooth images are nearer to others than real ones
without being copies. One run each, and settings that were chosen in the chapters and not for this table. What the models drew is
kept between runs of this section, so the minutes at the head of this page may leave out their training: it is the column
"trained, s". Other work ran on the machine meanwhile, and the models' times differ by it.
"""


def _middle(data: dict[str, Any]) -> str:
    """The budget of three minutes, or the largest where there is none."""
    return "3" if "3" in data["rows"] else list(data["rows"])[-1]


def _throughput(data: dict[str, Any]) -> str:
    peak = data["peak"]["gflops"]["median"]
    size, speed, same = [], [], []
    for name, row in data["networks"].items():
        step, forward = row["step"], row["forward"]
        size.append([
            TITLES[name], f"{row['parameters']:,}", number(forward["flops"] / 1e6), number(step["flops"] / 1e6),
            f"{row['memory_mib']:.0f} MiB",
        ])  # fmt: skip
        speed.append([
            TITLES[name], _spread(forward["images_per_second"]), _spread(step["images_per_second"]),
            _spread(step["gflops"]), f"{step['gflops']['median'] / peak:.0%}", _spread(step["ours_is_faster"]),
        ])  # fmt: skip
        if "twin_is_faster" in step:
            same.append([TITLES[name], _spread(forward["twin_is_faster"]), _spread(step["twin_is_faster"])])
    parts = f"""
## Throughput

How many images of 28 × 28 pixels does a network take in a second, {
        data["batch"]
    } at a time, in float32? First what there
is to compute, as PyTorch's own counter of operations sees it (one multiplication and one addition are two operations):

{_table(["network", "parameters", "MFLOP an image, forward", "forward and backward", "memory of a step"], size)}

The memory is by how much the peak of a fresh process rises, over what it holds at rest, during one update of
{data["batch"]} images; weights, gradients and the optimiser's state are there before.

{
        _table(
            [
                "network",
                "images a second, forward",
                "forward and backward",
                "GFLOP/s",
                "of the peak",
                "times slower than ours",
            ],
            speed,
        )
    }

The peak is the fastest product of two square matrices in the same run: {_spread(data["peak"]["gflops"])} GFLOP/s, at
{data["peak"]["side"]:,} × {data["peak"]["side"]:,}.

![Bars: images a second in training for each network, on a logarithmic axis.](benchmarks/throughput.png)
"""
    if same:
        parts += f"""
Most of the difference is size, so here is the code alone: our U-Net with the channels, levels, blocks and attention of
each network of diffusers. A number above 1 says that ours is so many times faster.

{_table(["layout of", "forward", "forward and backward"], same)}

The layouts are as near as either lets them be: diffusers has two residual blocks with attention between them in the
middle, ours one and attention after it; diffusers' attention has heads of 8 channels, ours of about 64; diffusers adds
the time to every block, ours scales and shifts by it. The network with 96 channels attends in its middle only (so its
parameters come to 13.8 million), ours of that layout on the whole smallest level.
"""
    return (
        parts
        + """
**What it means.** The network of chapter 6 is quick because it is small and because it folds 2 × 2 pixels into channels
before it starts; "of the peak" says how much of the machine each network gets to use.

**What it does not mean.** Images a second are not quality; that has a section of its own. Attention in small heads and
many small layers cost more than their operations on a CPU, and next to nothing on a GPU.
"""
    )


def _cost(data: dict[str, Any]) -> str:
    words = {"batch": "batch", "channels": "channels", "side": "side of the image, pixels", "steps": "DDIM steps"}
    rows = []
    for axis, curve in data["curves"].items():
        points = ", ".join(
            f"{at}: {1000 * point['median']:,.0f}" for at, point in zip(curve["at"], curve["seconds"], strict=True)
        )
        rows.append([words[axis], points, f"{curve['slope']:.2f}"])
    return f"""
## What costs what

How long does an update of our network take (loss, gradient, AdamW) if one thing about it is changed? Without a change it
has {data["channels"]} channels, and sees {data["batch"]} images of 28 × 28. The last row is sampling: 16 images against the
number of DDIM steps.

{_table(["changed", "milliseconds", "slope"], rows)}

![Four panels in log-log axes: seconds against batch, channels, side of the image and DDIM steps, each with a fitted
straight line.](benchmarks/cost.png)

**What it means.** The slope is that of a straight line through the points in log-log axes: with slope 1, twice as much
costs twice as much. Convolutions promise 1 for the batch, 2 for channels, 2 for the side of the image (it has side²
pixels) and 1 for the steps. A slope below the promise says that small sizes leave the machine idle; attention, which
compares every position with every other, pushes the side's beyond 2.
"""


def _sampling(data: dict[str, Any]) -> str:
    return f"""
## Sampling

{data["number"]} digits in {_sampler(data)} from `load_pretrained("mnist")`, a network of
{data["parameters"]:,} parameters: {_spread(data["seconds"])} seconds.
"""


def _start(data: dict[str, Any]) -> str:
    seconds = data["seconds"]
    rows = [
        ["nothing", _spread(seconds["nothing"])],
        ["`import torch`", _spread(seconds["torch"])],
        ["`import diffnotes`", _spread(seconds["diffnotes"])],
    ]
    if data["wheel_bytes"]:
        wheel = f"The wheel, trained weights included, has {data['wheel_bytes'] / 1e6:.2f} MB."
    else:
        wheel = f"The wheel could not be built here ({data['wheel_problem']})."
    return f"""
## Start

{_table(["a fresh interpreter that does", "seconds"], rows)}

`import diffnotes` costs {_spread(data["more_than_torch"], 1000)} milliseconds more than the torch that it needs. {wheel}
"""


def _gpu(data: dict[str, Any]) -> str:
    if "skipped" in data:
        return f"\n## On a GPU\n\n{data['skipped']}\n"
    rows = [
        [TITLES[name], f"{row['epoch_seconds']:.2f}", _spread(row["samples_per_second"])]
        for name, row in data["networks"].items()
    ]
    return f"""
## On a GPU

Compiled by torch.compile, in bfloat16, channels last, {data["batch"]} images at a time; the compiling does not count.

{_table(["network", "seconds for one epoch of MNIST", f"samples a second, {_sampler(data)}"], rows)}
"""


# -- the figures ----------------------------------------------------------------------------------------------------------


def figures(results: dict[str, Any], folder: Path) -> None:
    """Write the figures that the page shows to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    drawings = {
        "quality": ("quality", quality_figure), "samples": ("quality", _samples_figure),
        "throughput": ("throughput", _throughput_figure), "cost": ("cost", _cost_figure),
        "steps": ("steps", steps_figure), "portrait": ("portrait", _portrait_figure),
    }  # fmt: skip
    for name, (section, draw) in drawings.items():
        if section in results:
            figure = draw(results[section]["data"])
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=110)
            picture = Image.open(buffer).convert("RGB").quantize(128, dither=Image.Dither.NONE)
            picture.save(folder / f"{name}.png", optimize=True)


def _samples_figure(data: dict[str, Any]) -> Any:
    from diffnotes.book import plots

    sheets = {name: points[-1] for name, points in data["curves"].items()} | {"perfect": data["perfect"]}
    columns = 4
    figure, axes = plots.subplots(-(-len(sheets) // columns), columns, size=(10.0, 2.7 * -(-len(sheets) // columns)))
    for place in axes.flat:
        place.set_axis_off()
    for place, (name, point) in zip(axes.flat, sheets.items(), strict=False):
        place.imshow(np.asarray(Image.open(io.BytesIO(base64.b64decode(point["grid"])))), cmap="gray")
        trained = f", {point['seconds']:.0f} s" if "seconds" in point else ""
        place.set_title(TITLES[name] + trained, fontsize=8)
    return figure


def _portrait_figure(data: dict[str, Any]) -> Any:
    from diffnotes.book import plots

    rows = portrait.models(data, _middle(data)) | portrait.made_sets(data)
    figure, axes = plots.subplots(-(-len(rows) // 3), 3, size=(11.0, 1.9 * -(-len(rows) // 3)))
    for place in axes.flat:
        place.set_axis_off()
    for place, (title, row) in zip(axes.flat, rows.items(), strict=False):
        place.imshow(np.asarray(Image.open(io.BytesIO(base64.b64decode(row["sheet"]))).convert("L")), cmap="gray")
        place.set_title(title, fontsize=9)
    return figure


def _throughput_figure(data: dict[str, Any]) -> Any:
    from diffnotes.book import plots

    names = list(data["networks"])
    rates = [data["networks"][name]["step"]["images_per_second"] for name in names]
    figure, axes = plots.subplots(size=(7.0, 0.6 + 0.4 * len(names)))
    medians = [rate["median"] for rate in rates]
    reach = [
        [rate["median"] - rate["low"] for rate in rates],
        [rate["high"] - rate["median"] for rate in rates],
    ]
    colours = [plots.BLUE if name.startswith("ours") else plots.ORANGE for name in names]
    axes.barh(range(len(names)), medians, xerr=reach, color=colours, capsize=2)
    axes.set_yticks(range(len(names)), [TITLES[name] for name in names])
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="images a second, forward and backward")
    plain_ticks(axes.xaxis)
    return figure


def _cost_figure(data: dict[str, Any]) -> Any:
    from diffnotes.book import plots

    labels = {
        "batch": "images in a batch",
        "channels": "channels",
        "side": "side of the image (pixels)",
        "steps": "DDIM steps",
    }
    figure, axes = plots.subplots(1, 4, size=(10.0, 2.8))
    for place, (axis, curve) in zip(axes, data["curves"].items(), strict=True):
        at = np.array(curve["at"], float)
        seconds = np.array([point["median"] for point in curve["seconds"]])
        line = np.exp(curve["slope"] * (np.log(at) - np.log(at).mean()) + np.log(seconds).mean())
        place.plot(at, line, color="#999999", linewidth=1.2)
        place.plot(at, seconds, "o")
        place.set(xscale="log", yscale="log", xlabel=labels[axis], title=f"slope {curve['slope']:.2f}")
        place.set_xticks(curve["at"], [str(value) for value in curve["at"]])
        place.xaxis.minorticks_off()
        plain_ticks(place.yaxis)
    axes[0].set_ylabel("seconds")
    return figure
