"""The models of part II beside those of part I: the same images, the same time to train, one judge and one meter of bits."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks.measure import Budget, clock, pace
from benchmarks.networks import parameters
from benchmarks.quality import DONE, OWN, Own, train_like_ours
from diffnotes import (
    Denoising,
    Images,
    Schedule,
    TrainConfig,
    Trainer,
    ddim_sample,
    ddpm_sample,
    dpm_solver_sample,
    initial_noise,
)
from diffnotes.models.coupling import RealNVP
from diffnotes.models.vae import VAE, binarize
from diffnotes.process.elbo import mean_and_error
from diffnotes.process.flow import flow_sample, flow_schedule
from diffnotes.process.likelihood import bits_per_dim, dequantise
from diffnotes.process.sde import reverse_sde_sample
from diffnotes.process.strides import strided_elbo
from diffnotes.training.metrics import held_out, quality
from diffnotes.training.objectives import Likelihood

Draw = Callable[[nn.Module, Schedule, torch.Tensor, torch.Tensor, int], torch.Tensor]


def last(sampler: Callable[..., Iterator[Any]], fresh: bool = False, **how: Any) -> Draw:
    """The images at which a sampler ends, from noise x_T and labels y; with fresh noise on the way, from this seed."""

    def draw(model: nn.Module, schedule: Schedule, x_T: torch.Tensor, y: torch.Tensor, seed: int) -> torch.Tensor:
        *_, frame = sampler(model, schedule, x_T, y=y, **how, **({"generator": seed} if fresh else {}))
        return frame.x_t.clamp(-1, 1)

    return draw


def networks() -> dict[str, Own]:
    """The denoising networks: chapter 6's, the same on the noise levels of NCSN (chapter 13), and by flow matching (15)."""
    levels = Schedule.geometric(T=200, lowest=0.02, highest=30)
    return {
        "v": OWN["ours"],
        "score": Own(loss=Denoising(levels, min_snr=None)),
        "u": Own(other={"target": "u"}, loss=Denoising(flow_schedule(1000), min_snr=None, logit_normal=(0.3, 1.0))),
    }


SAMPLERS: dict[str, tuple[str, int, Draw]] = {  # which network, how many calls, how
    "ddpm": ("v", 50, last(ddpm_sample, fresh=True, steps=50)),
    "ddim": ("v", 20, last(ddim_sample, steps=20)),
    "2m": ("v", 8, last(dpm_solver_sample, steps=8)),
    "score_sde": ("score", 25, last(reverse_sde_sample, fresh=True, steps=25)),
    "flow_matching": ("u", 20, last(flow_sample, steps=20)),
}


def measure(budget: Budget, train: Images, test: Images) -> dict[str, Any]:
    """Every model trained for the time in which chapter 6's network makes the last of budget.own updates; digits with the
    labels in turn, where it takes labels; and real images."""
    perfect, real = held_out(test.x, min(budget.perfect, len(test) // 4))
    few = Images(test.x[: budget.bits_images], test.y[: budget.bits_images], test.name, test.source)
    unit = budget.own[-1] * pace(OWN["ours"].make(train).steps(updates=1000))
    x_T, y = initial_noise(0, budget.many), torch.arange(budget.many) % 10
    rows: dict[str, dict[str, Any]] = {}

    def judged(
        name: str, done: DONE, calls: int, draw: Callable[[slice], torch.Tensor], bits: dict[str, Any] | None
    ) -> None:
        seconds, updates, model = done
        with torch.no_grad():
            samples = torch.cat([draw(slice(i, i + 100)) for i in range(0, budget.many, 100)])
            started = clock()
            draw(slice(0, 64))
        rows[name] = {
            "parameters": parameters(model),
            "updates": updates,
            "training_seconds": seconds,
            "calls": calls,
            "drawing_seconds": clock() - started,
            "bits": bits,
            **asdict(quality(samples, real)),
        }
        print(f"  {name}: {updates} updates, Fréchet distance {rows[name]['frechet']['value']:.2f}, {bits}", flush=True)

    done = {name: train_like_ours(own.make(train), budget.own[-1]) for name, own in networks().items()}
    bits = {name: bound(done[name][2], own.loss.schedule, few) for name, own in networks().items()}
    for name, (network, calls, draw) in SAMPLERS.items():
        model, schedule = done[network][2].eval(), networks()[network].loss.schedule
        of_chain = bits[network] if name in ("ddpm", "score_sde", "flow_matching") else None
        at = partial(_part, draw, model, schedule, x_T, y)
        judged(name, done[network], calls, at, of_chain)

    flow = real_nvp(train, unit)
    nvp: Any = flow[2]
    z = x_T.flatten(1)
    judged("realnvp", flow, 1, lambda i: nvp.inverse(z[i], y[i]).clamp(-1, 1), exact(nvp, few))
    plane = vae(train, unit)
    decoder: Any = plane[2]
    judged("vae", plane, 1, lambda i: decoder.decode(z[i, :2]), None)
    return {
        "seconds": unit,
        "updates": budget.own[-1],
        "threads": torch.get_num_threads(),
        "samples": budget.many,
        "real": len(real),
        "bits_images": len(few),
        "images": train.name,
        "perfect": asdict(quality(perfect[: budget.many], real)),
        "rows": rows,
    }


def _part(
    draw: Draw, model: nn.Module, schedule: Schedule, x_T: torch.Tensor, y: torch.Tensor, part: slice
) -> torch.Tensor:
    """The images of one part of the noise, with fresh noise of its own."""
    return draw(model, schedule, x_T[part], y[part], 1 + part.start)


def bound(model: nn.Module, schedule: Schedule, images: Images) -> dict[str, Any]:
    """The variational bound in bits per dimension, given the labels, of a chain of 25 strides (book, chapter 12)."""
    g = torch.Generator().manual_seed(0)
    terms = strided_elbo(model, schedule, images.x, steps=min(25, schedule.T), y=images.y, generator=g)
    return {"kind": "bound", **_measured(terms.bits_per_dim())}


def exact(model: Any, images: Images) -> dict[str, Any]:
    """Bits per dimension of the dequantised images, given the labels, by the change of variables (book, eq. 15.1 and 15.3)."""
    with torch.no_grad():
        noisy = dequantise(images.x, generator=torch.Generator().manual_seed(0))
        bits = bits_per_dim(model.log_prob(noisy, images.y), math.prod(images.x.shape[1:]))
    return {"kind": "dequantised", **_measured(bits)}


def _measured(bits: torch.Tensor) -> dict[str, float]:
    value, error = mean_and_error(bits)
    return {"value": float(value), "error": float(error)}


def real_nvp(train: Images, unit: float) -> DONE:
    """Chapter 15's RealNVP, trained as there."""

    def make() -> Trainer:
        torch.manual_seed(0)
        model = RealNVP(shape=(1, 28, 28), layers=8, hidden=64, num_classes=10, margin=0.05)
        model.set_scales(dequantise(train.x[:5000], generator=torch.Generator().manual_seed(0)))
        config = TrainConfig(batch_size=64, precision="float32", learning_rate=6e-3, warmup=20, ema_decay=0.98)
        return Trainer(model, Likelihood(), train, config)

    seconds, updates, model = train_like_ours(make(), max(1, round(unit / pace(make().steps(updates=1000)))))
    return seconds, updates, model.eval()


def vae(train: Images, unit: float) -> DONE:
    """Chapter 10's VAE, trained as there: black and white images, Adam, a learning rate that falls to 0."""
    ink, g = binarize(train.x), torch.Generator().manual_seed(0)

    def updates(model: VAE, total: int) -> Iterator[None]:
        optimizer = torch.optim.Adam(model.parameters(), fused=True)
        for n in range(total):
            batch = ink[torch.randint(len(ink), (64,), generator=g)]
            loss = -model.elbo(batch, torch.randn(1, 64, 2, generator=g)).elbo.mean()
            optimizer.param_groups[0]["lr"] = 8e-3 * min(1, (n + 1) / 100) * (1 - n / total)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield

    torch.manual_seed(0)
    total = max(1, round(unit / pace(updates(VAE(latent=2), 1000), number=100)))
    torch.manual_seed(0)
    model, started = VAE(latent=2), clock()
    for _ in updates(model, total):
        pass
    return clock() - started, total, model.eval()
