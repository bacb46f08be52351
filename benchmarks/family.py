"""The models of the family portrait (book, chapter 21): each trained from random weights for so many seconds, and how it draws.

A function here trains one model, or two that share a part, and gives what it takes to draw images from each of its samplers and,
where there is a likelihood, to measure bits per dimension. Settings are those of the chapters.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import latents, relatives, transformers
from benchmarks.measure import clock, pace
from benchmarks.networks import parameters
from benchmarks.quality import OWN, Own, train_like_ours
from benchmarks.relatives import bound, exact, last
from diffnotes import Images, Schedule, TrainConfig, Trainer, ddim_sample, initial_noise
from diffnotes.models.autoregressive import PixelCNN, sample
from diffnotes.models.codes import VQVAE
from diffnotes.models.gan import Discriminator, Generator
from diffnotes.models.transformer import TokenTransformer
from diffnotes.process.consistency import consistency_sample
from diffnotes.process.guidance import ClassifierFreeGuidance
from diffnotes.training.adversarial import GanConfig, GanTrainer
from diffnotes.training.objectives import Consistency, NextToken, VectorQuantised
from diffnotes.training.train_codes import CODEBOOK, SIDE, tokens_of

GUIDANCE = 1.5
Drawn = Callable[[slice], Tensor]  # images i of the portrait: from noise and labels of their own, 0 to 9 in turn


@dataclass(frozen=True)
class Row:
    """A trained model with one of its samplers: so many calls of the network for an image, images, and bits per dimension."""

    calls: int
    draw: Drawn
    bits: Callable[[Images], dict[str, Any]] | None = None


@dataclass(frozen=True)
class Trained:
    """What a function of this module gives: how long it trained, how many updates and weights, and its rows."""

    seconds: float
    updates: int
    parameters: int
    rows: dict[str, Row] = field(default_factory=dict)


def noise(part: slice) -> Tensor:
    """x_T of these images: image i depends on i only."""
    return initial_noise(0, part.stop)[part]


def labels(part: slice) -> Tensor:
    """0 to 9 in turn."""
    return torch.arange(part.start, part.stop) % 10


def _updates(make: Callable[[], Any], seconds: float) -> int:
    """How many updates of such a trainer fit into so many seconds."""
    return max(1, round(seconds / pace(make().steps(updates=1000))))


def _row(calls: int, how: Any, model: nn.Module, schedule: Schedule, chain: bool = False) -> Row:
    """A sampler of relatives.last around a denoising network; chain: with the bound of its ancestral chain."""
    bits = partial(bound, model, schedule) if chain else None
    return Row(calls, lambda part: how(model, schedule, noise(part), labels(part), 1 + part.start), bits)


def _guided(model: nn.Module, schedule: Schedule, x_T: Tensor, y: Tensor, seed: int) -> Tensor:
    *_, frame = ddim_sample(ClassifierFreeGuidance(model, GUIDANCE), schedule, x_T, y=y, steps=20)  # type: ignore[arg-type]
    return frame.x_t.clamp(-1, 1)


def denoisers(train: Images, seconds: float) -> Trained:
    """Chapter 6's network, with four samplers."""
    done = train_like_ours(OWN["ours"].make(train), _updates(lambda: OWN["ours"].make(train), seconds))
    model, schedule = done[2].eval(), OWN["ours"].loss.schedule
    names = {"ddpm": "ddpm", "ddim": "ddim", "dpm_solver": "2m"}
    rows = {
        name: _row(*relatives.SAMPLERS[key][1:], model, schedule, chain=name == "ddpm") for name, key in names.items()
    }
    rows["guided"] = _row(40, _guided, model, schedule)
    return Trained(done[0], done[1], parameters(model), rows)


def dit(train: Images, seconds: float) -> Trained:
    """Chapter 16's largest transformer of the race, by the recipe of chapter 6."""

    def make(updates: int = 1000) -> Trainer:
        return transformers.trainer(transformers.RACERS["dit large"], train, updates)

    updates = _updates(make, seconds)
    done = train_like_ours(make(updates), updates)
    model = done[2].eval()
    rows = {"dit": _row(*relatives.SAMPLERS["ddim"][1:], model, OWN["ours"].loss.schedule, chain=True)}
    return Trained(done[0], done[1], parameters(model), rows)


def _other(name: str, row: str, train: Images, seconds: float) -> Trained:
    """One of the other networks of relatives.networks, with its sampler."""
    own: Own = relatives.networks()[name]
    done = train_like_ours(own.make(train), _updates(lambda: own.make(train), seconds))
    model = done[2].eval()
    return Trained(
        done[0],
        done[1],
        parameters(model),
        {row: _row(*relatives.SAMPLERS[row][1:], model, own.loss.schedule, chain=True)},
    )


def score(train: Images, seconds: float) -> Trained:
    """Chapter 13's score network on the noise levels of NCSN."""
    return _other("score", "score_sde", train, seconds)


def flow(train: Images, seconds: float) -> Trained:
    """Chapter 15's flow matching."""
    return _other("u", "flow_matching", train, seconds)


def consistency(train: Images, seconds: float) -> Trained:
    """Chapter 14's consistency training, after three fifths of the time as chapter 6's network; one call an image."""
    done = train_like_ours(OWN["ours"].make(train), _updates(lambda: OWN["ours"].make(train), 0.6 * seconds))
    schedule = OWN["ours"].loss.schedule

    def make() -> Trainer:
        model = OWN["ours"].make(train).model
        model.load_state_dict(done[2].state_dict())
        config = TrainConfig(learning_rate=1e-4, ema_decay=0.99)
        return Trainer(model, Consistency(schedule, levels=12, softness=3.0), train, config)

    more = train_like_ours(make(), _updates(make, 0.4 * seconds))
    model = more[2].eval()
    rows = {"consistency": _row(1, last(consistency_sample), model, schedule)}
    return Trained(done[0] + more[0], done[1] + more[1], parameters(model), rows)


def realnvp(train: Images, seconds: float) -> Trained:
    """Chapter 15's RealNVP."""
    spent, updates, model = relatives.real_nvp(train, seconds)
    nvp: Any = model

    def draw(part: slice) -> Tensor:
        return nvp.inverse(noise(part).flatten(1), labels(part)).clamp(-1, 1)

    return Trained(spent, updates, parameters(model), {"realnvp": Row(1, draw, partial(exact, nvp))})


def vae(train: Images, seconds: float) -> Trained:
    """Chapter 10's VAE, whose data are black and white: its bits are of other data."""
    spent, updates, model = relatives.vae(train, seconds)
    decoder: Any = model
    rows = {"vae": Row(1, lambda part: decoder.decode(noise(part).flatten(1)[:, :2]))}
    return Trained(spent, updates, parameters(model), rows)


def codes(train: Images, seconds: float) -> dict[str, Trained]:
    """Chapter 17's VQ-VAE, two fifths of the time, and a prior over its codes, three fifths: PixelCNN, and GPT."""
    slow: dict[str, Any] = dict(precision="float32", warmup=50, ema_decay=0.99)

    def make() -> Trainer:
        torch.manual_seed(0)
        vqvae = VQVAE(codes=CODEBOOK, dim=16, width=48)
        return Trainer(vqvae, VectorQuantised(commitment=0.25), train, TrainConfig(batch_size=64, **slow))

    first = train_like_ours(make(), _updates(make, 0.4 * seconds))
    vqvae: Any = first[2].eval()
    rows_of_codes = tokens_of(vqvae, train)
    done = {}
    for name, kind in (("vq_pixelcnn", _pixelcnn), ("vq_gpt", _gpt)):

        def of_prior(kind: Callable[[], nn.Module] = kind) -> Trainer:
            torch.manual_seed(0)
            return Trainer(kind(), NextToken(), rows_of_codes, TrainConfig(**slow))

        second = train_like_ours(of_prior(), _updates(of_prior, 0.6 * seconds))
        row = Row(SIDE * SIDE, partial(_decoded, vqvae, second[2].eval()))
        size = parameters(vqvae) + parameters(second[2])
        done[name] = Trained(first[0] + second[0], first[1] + second[1], size, {name: row})
    return done


def _pixelcnn() -> nn.Module:
    return PixelCNN(CODEBOOK, (SIDE, SIDE), width=48, layers=4, num_classes=10)


def _gpt() -> nn.Module:
    return TokenTransformer(CODEBOOK, (SIDE, SIDE), width=96, depth=4, heads=4, num_classes=10, near=9)


def _decoded(vqvae: Any, prior: nn.Module, part: slice) -> Tensor:
    tokens = sample(prior, labels(part), generator=torch.Generator().manual_seed(1 + part.start))
    return vqvae.decode(tokens.unflatten(1, (SIDE, SIDE)))


def _gan(name: str, K: int | None, train: Images, seconds: float) -> Trained:
    def make() -> GanTrainer:
        torch.manual_seed(0)
        return GanTrainer(Generator(num_classes=K), Discriminator(num_classes=K), train, GanConfig())

    run, updates, started = make(), _updates(make, seconds), clock()
    for _ in run.steps(updates=updates):
        pass
    spent, model = clock() - started, run.ema.model.eval()

    def draw(part: slice) -> Tensor:
        asked = () if K is None else (labels(part),)
        return model(initial_noise(0, part.stop, (model.dim,))[part], *asked)

    return Trained(spent, updates, parameters(model), {name: Row(1, draw)})


def gan(train: Images, seconds: float) -> Trained:
    """Chapter 21's GAN, without labels."""
    return _gan("gan", None, train, seconds)


def gan_labels(train: Images, seconds: float) -> Trained:
    """The same with labels."""
    return _gan("gan_labels", 10, train, seconds)


def _stages(name: str, made: latents.Drawn) -> Trained:
    """A row of what benchmarks/latents.py trains; the seeds of the parts lie far apart."""

    def draw(part: slice) -> Tensor:
        return made.draw(part.stop - part.start, 10_000 * (1 + part.start)).clamp(-1, 1)

    return Trained(made.seconds, made.updates, made.parameters, {name: Row(made.calls, draw)})


def latent(train: Images, seconds: float) -> Trained:
    """Chapter 18's autoencoder and a diffusion model of its codes."""
    return _stages("latent", latents.train_latent(train, seconds))


def cascade(train: Images, seconds: float) -> Trained:
    """Chapter 18's two stages, of 14 and of 28 pixels."""
    return _stages("cascade", latents.train_cascade(train, seconds))
