"""The training loop of a GAN, in which two networks take turns; their losses are in training/adversarial_losses.py.

Everything else in the package that learns goes through one loop and one objective (training/trainer.py). A GAN cannot: what the
generator minimises is not what the discriminator minimises, and each of them moves the other's loss. What the two loops share
stands in training/loop.py: budget, clock, interrupts and record. States, dashboard and checkpoints are the same.
"""

import json
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from diffnotes.process.arguments import choice, integer, number, shown
from diffnotes.process.samplers import initial_noise
from diffnotes.training import checkpoint, loop
from diffnotes.training.adversarial_losses import LOSSES, discriminator_loss, generator_loss, gradient_penalty
from diffnotes.training.config import TrainState
from diffnotes.training.ema import EMA
from diffnotes.training.loop import TrainingDiverged
from diffnotes.training.objectives.base import TIME_BINS, Draw, num_classes_of
from diffnotes.training.restore import data_from, mark, network_from, with_prefix


@dataclass(frozen=True)
class GanConfig:
    """The settings of a run.

    seed            decides all randomness of the run
    batch_size      real images of an update, and as many drawn ones
    loss            "non-saturating", "saturating" or "hinge"
    r1              gamma of the gradient penalty on real images (book, eq. 21.8); 0: none
    r1_every        it is taken in every so many updates, and counts as many times there (Karras et al. 2020, lazy regularisation)
    learning_rates  of generator and discriminator, until the last quarter of the budget, in which they fall to 0
    betas           of Adam, for both
    ema_decay       of the moving average of the generator's weights

    Numbers of numpy's are taken like Python's."""

    seed: int = 0
    batch_size: int = 64
    loss: str = "non-saturating"
    r1: float = 10.0
    r1_every: int = 4
    learning_rates: tuple[float, float] = (1e-3, 1e-3)
    betas: tuple[float, float] = (0.5, 0.99)
    ema_decay: float = 0.999

    def __post_init__(self) -> None:
        def pair(name: str, expected: str, holds: Callable[[float], bool]) -> tuple[float, float]:
            values = getattr(self, name)
            if not isinstance(values, tuple | list) or len(values) != 2:
                raise ValueError(f"{name} must be two numbers, got {shown(values)}")
            first, second = (number(name, value, expected, holds) for value in values)
            return first, second

        checked: dict[str, Any] = {
            "seed": integer("seed", self.seed, 0),
            "batch_size": integer("batch_size", self.batch_size, 1),
            "loss": choice("loss", self.loss, LOSSES),
            "r1": number("r1", self.r1, "be a number >= 0", lambda v: 0 <= v < math.inf),
            "r1_every": integer("r1_every", self.r1_every, 1),
            "learning_rates": pair("learning_rates", "hold positive numbers", lambda v: 0 < v < math.inf),
            "betas": pair("betas", "hold numbers in [0, 1)", lambda v: 0 <= v < 1),
            "ema_decay": number("ema_decay", self.ema_decay, "lie in [0, 1)", lambda v: 0 <= v < 1),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)


class GanTrainer:
    """Trains a generator against a discriminator: for state in trainer.steps(seconds=180): ...

    generator(z) or generator(z, y) draws images of noise z (B, generator.dim); discriminator(x) or discriminator(x, y) gives a
    logit for each image; both take labels or neither does. `ema.model`, the moving average of the generator, is the one to
    sample from (gan_sample); `history` lists every TrainState. Its `parts` are the two losses, the mean logits of real and drawn
    images, and the gradient penalty (the newest one); `loss` is the discriminator's, `gradient_norm` the generator's.

    Everything random in update n is a function of the seed and of n. ValueError where the three do not go together."""

    schedule = None  # a GAN has none; the dashboard asks

    def __init__(self, generator: Any, discriminator: Any, images: Any, config: GanConfig | None = None) -> None:
        self.config = GanConfig() if config is None else config
        self.generator, self.discriminator, self.data = generator, discriminator, images
        _check_kinds(generator, discriminator, images, self.config)
        self._about = self._describe()
        mark(generator, self._about["images"], 0.0)
        self.device = next(generator.parameters()).device
        rates, betas = self.config.learning_rates, self.config.betas
        self.optimizers = [
            torch.optim.Adam(network.parameters(), rate, betas)
            for network, rate in zip((generator, discriminator), rates, strict=True)
        ]
        self.ema = EMA(generator, self.config.ema_decay)
        self.update, self.seconds, self.interrupted = 0, 0.0, False
        self.history: list[TrainState] = []
        self.loss_by_time: list[np.ndarray] = []  # a GAN has no times: nan
        self._batches = loop.Batches(len(images), self.config.batch_size, self.config.seed)
        self._turn, self._newest_loop = threading.Lock(), object()

    @property
    def model(self) -> Any:
        """The generator: what remains when the game is over."""
        return self.generator

    def steps(self, *, updates: int | None = None, seconds: float | int | None = None) -> Iterator[TrainState]:
        """Train, yielding a TrainState after every update, until the run has had `updates` updates or `seconds` of training in
        all, counted from its very beginning. In the last quarter of the budget the learning rates fall to 0. An interrupt ends
        the loop after the update it met, and so does another loop over the same trainer that begins."""
        return loop.steps(self, updates, seconds)

    def _update(self, progress: float) -> tuple[dict[str, float], float, float, np.ndarray]:
        """The discriminator's turn, then the generator's, on the same drawn images."""
        config, (of_g, of_d) = self.config, self.optimizers
        for optimizer, rate in zip(self.optimizers, config.learning_rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * min(1.0, 4 * (1 - progress))
        batch = self.data[self._batches(self.update)].to(self.device)
        draw = Draw(config.seed, self.update, config.batch_size)
        z = torch.randn(config.batch_size, self.generator.dim, generator=draw("noise")).to(self.device)
        labels = num_classes_of(self.generator) is not None
        y = (batch.y,) if labels else ()  # the drawn images get the labels of the real ones
        self.generator.train()
        self.discriminator.train()
        fake = self.generator(z, *y)

        real_logits, fake_logits = self.discriminator(batch.x, *y), self.discriminator(fake.detach(), *y)
        loss_d = discriminator_loss(config.loss, real_logits, fake_logits)
        penalty, total = self._last("gradient penalty"), loss_d
        if config.r1 > 0 and self.update % config.r1_every == 0:
            squares = gradient_penalty(self.discriminator, batch.x, *y).mean()
            penalty, total = squares.item(), loss_d + config.r1 / 2 * config.r1_every * squares
        self._step(of_d, self.discriminator, total)

        self.discriminator.requires_grad_(False)  # only the way through it is needed
        loss_g = generator_loss(config.loss, self.discriminator(fake, *y))
        norm = self._step(of_g, self.generator, loss_g)
        self.discriminator.requires_grad_(True)
        self.ema.update(self.generator)
        parts = {
            "discriminator loss": loss_d.item(),
            "generator loss": loss_g.item(),
            "logit of real": real_logits.mean().item(),
            "logit of drawn": fake_logits.mean().item(),
            "gradient penalty": penalty,
        }
        return parts, norm, of_g.param_groups[0]["lr"], np.full(TIME_BINS, np.nan, np.float32)

    def _step(self, optimizer: torch.optim.Optimizer, network: Any, loss: Tensor) -> float:
        """One step of one network; the norm of its gradient."""
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None]).item()
        if not math.isfinite(loss.item()) or not math.isfinite(norm):
            self.discriminator.requires_grad_(True)
            raise TrainingDiverged(
                f"update {self.update + 1}: the loss of the {type(network).__name__} is {loss.item()}, its gradient's norm "
                f"{norm}. Its weights are those after update {self.update}; start again with learning_rates smaller than "
                f"{self.config.learning_rates}"
            )
        optimizer.step()
        return norm

    def _last(self, part: str) -> float:
        return self.history[-1].parts[part] if self.history else 0.0

    def _agree(self, value: float, mean: bool = False) -> float:
        return value  # there is one process

    # -- keeping and going on ---------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> Path:
        """Write the whole run to folder/checkpoint.safetensors (training/checkpoint.py); returns the path. RunInUse while
        somebody else owns the folder. load_model(folder) (training/restore.py) gives the averaged generator alone."""
        with self._turn:
            tensors = {f"model.{k}": v for k, v in self.generator.state_dict().items()}
            tensors |= {f"discriminator.{k}": v for k, v in self.discriminator.state_dict().items()}
            tensors |= {f"ema.{k}": v for k, v in self.ema.model.state_dict().items()}
            for name, optimizer in zip(("generator", "discriminator"), self.optimizers, strict=True):
                tensors |= loop.optimizer_tensors(optimizer, f"optimizer.{name}.")
            tensors["history"], parts = loop.record(self.history)
            now = {"parts": parts, "update": self.update, "seconds": self.seconds, "ema_updates": self.ema.updates}
            metadata = self._about | now | {"images": self._about["images"] | {"sha256": self.data.digest()}}
            return checkpoint.write(folder, tensors, metadata, by=self)

    def _describe(self) -> dict[str, Any]:
        def network(model: Any) -> dict[str, Any]:
            kind = type(model)
            return {"model_class": f"{kind.__module__}.{kind.__qualname__}", "model": getattr(model, "settings", None)}

        images = {name: getattr(self.data, name, None) for name in ("name", "item_shape", "classes", "load")}
        about = network(self.generator) | {
            "discriminator": network(self.discriminator),
            "target": None,
            "objective": {"name": "GAN", "settings": {}},
            "config": asdict(self.config),
            "images": images | {"number": len(self.data)},
        }
        try:
            return json.loads(json.dumps(about, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"the run could not be saved: the settings of generator and discriminator must be what JSON can hold ({error})"
            ) from error

    @classmethod
    def load(
        cls, folder: str | Path, images: Any = None, generator: Any = None, discriminator: Any = None
    ) -> "GanTrainer":
        """The run saved in `folder`, ready to go on with the images it was trained on (fetched by name if not given); networks
        like those that were trained, where their classes are not of diffnotes.models."""
        tensors, metadata = checkpoint.read(folder)
        if "discriminator" not in metadata:
            raise ValueError(
                f"folder must hold a run of a GanTrainer, got one of a Trainer: {folder}; Trainer.load reads it"
            )
        images = data_from(folder, metadata["images"]) if images is None else images
        if images.digest() != metadata["images"]["sha256"]:
            was = metadata["images"]
            raise ValueError(
                f"{folder} was trained on {was['number']:,} images of {was['name']}, got {images!r}: other sha256"
            )
        generator = network_from(tensors, metadata, "model.", generator)
        discriminator = network_from(tensors, metadata | metadata["discriminator"], "discriminator.", discriminator)
        settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in metadata["config"].items()}
        trainer = cls(generator, discriminator, images, GanConfig(**settings))
        trainer.ema.model.load_state_dict(with_prefix(tensors, "ema."))
        for name, optimizer in zip(("generator", "discriminator"), trainer.optimizers, strict=True):
            loop.load_optimizer(optimizer, tensors, f"optimizer.{name}.")
        trainer.ema.updates = metadata["ema_updates"]
        trainer.update, trainer.seconds = metadata["update"], metadata["seconds"]
        trainer.history = loop.recorded(tensors["history"], metadata["parts"])
        trainer.loss_by_time = [np.full(TIME_BINS, np.nan, np.float32) for _ in trainer.history]
        return trainer


@torch.no_grad()
def gan_sample(
    generator: Any, number: int, *, labels: bool | Integer[Tensor, "number"] = False, seed: int = 0
) -> Float[Tensor, "number channel height width"]:
    """Samples to measure, (number, C, H, W) on the CPU, a hundred at a time, each in one call. labels, for a generator that
    takes them: True for all of them in turn, or those to draw, (number,). Image i depends on the seed and on i only."""
    _check_generator(generator)
    K = num_classes_of(generator)
    asked = isinstance(labels, Tensor) or bool(labels)
    if asked != (K is not None):
        expected = (
            "True or hold labels for a generator that takes them"
            if K is not None
            else "False: this generator takes none"
        )
        raise ValueError(f"labels must be {expected}, got {shown(labels)}")
    z = initial_noise(seed, integer("number", number, 1), (generator.dim,))
    y = labels if isinstance(labels, Tensor) else torch.arange(len(z)) % (K or 1)
    if y.shape != (len(z),):
        raise ValueError(f"labels must be one for each of the {len(z)} samples, got {shown(labels)}")
    device = next(generator.parameters()).device
    training = generator.training
    generator.eval()  # batch normalisation by its running means: an image of its own z alone
    parts = [
        generator(z_part.to(device), *((y_part.to(device),) if asked else ())).cpu()
        for z_part, y_part in zip(z.split(100), y.split(100), strict=True)
    ]
    generator.train(training)
    return torch.cat(parts)


def _check_kinds(generator: Any, discriminator: Any, images: Any, config: Any) -> None:
    """ValueError unless each is what it should be, and they go together."""
    _check_generator(generator)
    _check_network("discriminator", discriminator)
    if not isinstance(config, GanConfig):
        raise ValueError(f"config must be a GanConfig, or None for the usual settings, got {type(config).__name__}")
    if not all(hasattr(images, name) for name in ("__len__", "__getitem__", "to", "digest", "name")):
        raise ValueError(
            f"images must be Images, or have __len__, __getitem__, to, digest and name as they do, got {type(images).__name__}"
        )
    if config.batch_size > len(images):
        raise ValueError(f"batch_size must be at most the number of images, {len(images)}, got {config.batch_size}")
    K, other = num_classes_of(generator), num_classes_of(discriminator)
    if K != other:
        raise ValueError(f"discriminator must take the generator's labels, num_classes={K}, got num_classes={other}")
    if K is not None and int(images.y.max()) >= K:
        raise ValueError(f"images must have labels 0..{K - 1}, as the generator takes them, got {int(images.y.max())}")


def _check_network(name: str, network: Any) -> None:
    if not isinstance(network, nn.Module) or next(network.parameters(), None) is None:
        raise ValueError(f"{name} must be a torch.nn.Module with weights, got {shown(network)}")


def _check_generator(generator: Any) -> None:
    _check_network("generator", generator)
    if not isinstance(getattr(generator, "dim", None), int):
        raise ValueError(f"generator must have dim, the numbers of its noise z, got {type(generator).__name__} without")
