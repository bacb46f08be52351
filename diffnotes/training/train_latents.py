"""Train the networks of chapter 18, and store their averaged weights in the package: an autoencoder and a diffusion model of its
codes; a cascade of two; a CLIP, a prior over its embeddings, and a decoder of them.

python -m diffnotes.training.train_latents latent | cascade | unclip          (a part of make weights; eight minutes on one core)
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffnotes.models.autoencoder import Autoencoder
from diffnotes.models.clip import CLIP
from diffnotes.models.conditioned import ConditionedUNet
from diffnotes.models.mlp import MLPDenoiser
from diffnotes.models.unet import UNet
from diffnotes.process.cascade import shrink
from diffnotes.process.latent import Projection
from diffnotes.process.schedules import Schedule
from diffnotes.training.captions import CAPTIONS, VOCABULARY, captioned, token_table
from diffnotes.training.config import TrainConfig
from diffnotes.training.data import Images, load_images
from diffnotes.training.latents import Codes, encoded
from diffnotes.training.objectives import (
    Autoencoding,
    Contrastive,
    Denoising,
    DenoisingCodes,
    DenoisingEmbedded,
    DenoisingUpscaled,
)
from diffnotes.training.pretrained import LATENTS, store_together
from diffnotes.training.trainer import Trainer

SCHEDULE = Schedule.cosine(T=1000)
THETA = 0.05  # the variance of the autoencoder's Gaussian
KEEP = 24  # principal components of the embedding
UNETS: dict[str, Any] = dict(learning_rate=4e-3, warmup=50)  # as in chapter 6
SMALL: dict[str, Any] = dict(optimizer="adamw", learning_rate=2e-3, warmup=20, ema_decay=0.98, precision="float32")
UPDATES = {
    "autoencoder": 1200, "latent": 2500, "base": 1500, "second": 1500, "clip": 500, "prior": 1500, "decoder": 1500,
}  # fmt: skip


def autoencoder(images: Images) -> Trainer:
    """4 x 7 x 7 codes; 64 images in an update."""
    torch.manual_seed(0)
    config = TrainConfig(batch_size=min(64, len(images)), ema_decay=0.99, **UNETS)
    return Trainer(Autoencoder(), Autoencoding(THETA), images, config)


def latent(codes: Codes) -> Trainer:
    """A U-Net on the 7 x 7 places of the codes."""
    torch.manual_seed(0)
    unet = UNet(48, (1,), blocks=2, image_channels=codes.item_shape[0], num_classes=10, target="v")
    return Trainer(unet, DenoisingCodes(SCHEDULE), codes, TrainConfig(**UNETS))


def small_of(images: Images) -> Images:
    """The images at half the size."""
    return Images(shrink(images.x), images.y, f"{images.name} at half the size", images.source, images.classes)


def base(small: Images) -> Trainer:
    """A U-Net on the 14 x 14 pixels of small images, 2 x 2 of them folded into channels."""
    torch.manual_seed(0)
    unet = UNet(48, (1,), blocks=2, patch=2, num_classes=10, target="v", input_mean=_mean(small.x))
    loss = Denoising(SCHEDULE, min_snr=None, logit_normal=(0.3, 1.0))
    return Trainer(unet, loss, small, TrainConfig(**UNETS))


def second(images: Images, most: int = 500) -> Trainer:
    """Chapter 6's network, narrower, with the small image as another channel of the input, noised to a level up to `most`."""
    torch.manual_seed(0)
    unet = ConditionedUNet(
        picture_channels=1, level=most > 0, channels=24, multipliers=(1, 2), blocks=1, patch=2, num_classes=10,
        target="v", input_mean=_mean(images.x),
    )  # fmt: skip
    return Trainer(unet, DenoisingUpscaled(SCHEDULE, most), images, TrainConfig(**UNETS))


def clip(pairs: Images) -> Trainer:
    """Chapter 19's CLIP."""
    torch.manual_seed(0)
    model = CLIP(token_table(), len(VOCABULARY))
    return Trainer(model, Contrastive(), pairs, TrainConfig(batch_size=min(128, len(pairs)), **SMALL))


def prior(codes: Codes, texts: Tensor) -> Trainer:
    """An MLP that predicts the embedding from a noisy one and the text embedding of the caption."""
    torch.manual_seed(0)
    model = MLPDenoiser(codes.item_shape[0], table=tuple(texts.shape), width=120)
    model.set_table(texts)
    config = TrainConfig(batch_size=min(256, len(codes)), **SMALL)
    return Trainer(model, Denoising(SCHEDULE, min_snr=None), codes, config)


def decoder(codes: Codes) -> Trainer:
    """A U-Net that is given the embedding in the place of a label."""
    torch.manual_seed(0)
    if codes.images is None:
        raise ValueError("codes must have their images, got none")
    unet = ConditionedUNet(
        vector=codes.x.shape[1], channels=24, multipliers=(1, 2), blocks=1, patch=2, target="v",
        input_mean=_mean(codes.images),
    )  # fmt: skip
    return Trainer(unet, DenoisingEmbedded(SCHEDULE), codes, TrainConfig(**UNETS))


@torch.no_grad()
def embeddings(model: CLIP, images: Images) -> Tensor:
    """The unit vectors of the images, a thousand at a time."""
    return torch.cat([model.image(part) for part in images.x.split(1000)])


@torch.no_grad()
def text_table(model: CLIP) -> Tensor:
    """The unit vectors of all captions, the empty one last."""
    return model.text(torch.arange(CAPTIONS))


def _mean(x: Tensor) -> Tensor:
    return SCHEDULE.alpha_bar.sqrt() * x.mean()


def done(name: str, trainer: Trainer, updates: int) -> Any:
    """The averaged network after so many updates."""
    started = time.process_time()
    for state in trainer.steps(updates=updates):
        if state.update % 100 == 0 or state.progress == 1:
            last = trainer.history[-100:]
            mean = sum(s.loss for s in last) / len(last)
            print(f"{name} {state.update:5d}  {time.process_time() - started:6.0f} s  {mean:.4f}", flush=True)
    return trainer.ema.model.eval().requires_grad_(False)


def main() -> None:
    """Train on MNIST's training images and store what came out, in half precision."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("system", choices=("latent", "cascade", "unclip"))
    parser.add_argument("--updates", type=int, help="of each network")
    parser.add_argument("--out", type=Path, default=LATENTS)
    options = parser.parse_args()
    images = load_images("mnist", "train")
    updates = {name: options.updates or number for name, number in UPDATES.items()}
    numbers: dict[str, Tensor] = {}
    if options.system == "latent":
        coder = done("autoencoder", autoencoder(images), updates["autoencoder"])
        codes, latents = encoded(coder, images)
        networks = {"autoencoder": coder, "unet": done("latent", latent(codes), updates["latent"])}
        numbers = {"shift": torch.tensor(latents.shift), "scale": torch.tensor(latents.scale)}
    elif options.system == "cascade":
        networks = {
            "base": done("base", base(small_of(images)), updates["base"]),
            "second": done("second", second(images), updates["second"]),
        }
    else:
        pairs = captioned(images)
        model = done("clip", clip(pairs), updates["clip"])
        e = embeddings(model, images)
        projection = Projection.measure(e, KEEP)
        codes = Codes(projection.into(e), pairs.y, "embeddings", f"of {images.name}, by a CLIP")
        pictures = Codes(codes.x, codes.y, codes.name, codes.source, images=images.x)
        networks = {
            "clip": model,
            "prior": done("prior", prior(codes, text_table(model)), updates["prior"]),
            "decoder": done("decoder", decoder(pictures), updates["decoder"]),
        }
        scale = torch.tensor(projection.scale)
        numbers = {"mean": projection.mean, "axes": projection.axes.contiguous(), "scale": scale}
    path = store_together(options.out / f"{options.system}.safetensors", networks, numbers)
    print(f"{path}, {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
