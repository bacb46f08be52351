"""Trained networks that come with the package, so that every chapter has one from the first minute."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from diffnotes.models.autoencoder import Autoencoder
from diffnotes.models.captioned import CaptionedUNet
from diffnotes.models.clip import CLIP
from diffnotes.models.codes import VQVAE
from diffnotes.models.conditioned import ConditionedUNet
from diffnotes.models.grey import GreyDenoiser, GreyHead
from diffnotes.models.mlp import MLPDenoiser
from diffnotes.models.series import SeriesTransformer
from diffnotes.models.transformer import TokenTransformer
from diffnotes.models.unet import UNet
from diffnotes.process.arguments import choice
from diffnotes.process.latent import Latents, Projection
from diffnotes.process.schedules import Schedule
from diffnotes.training import checkpoint
from diffnotes.training.captions import token_table
from diffnotes.training.restore import load_model, with_prefix

WEIGHTS = Path(__file__).parent / "weights"
CODES = WEIGHTS / "codes"
GREY = WEIGHTS / "grey" / "mnist-small.safetensors"
CAPTIONED = WEIGHTS / "captioned" / "mnist-small.safetensors"
WORDS = WEIGHTS / "words"
SERIES = WEIGHTS / "series" / "two-periods.safetensors"
LATENTS = WEIGHTS / "latents"
TOGETHER = {kind.__name__: kind for kind in (Autoencoder, CLIP, ConditionedUNet, MLPDenoiser, UNet)}


def load_pretrained(name: str = "mnist", trainable: bool = False) -> tuple[Any, Schedule]:
    """A trained network in eval mode, and its schedule: class-conditional, target v, cosine schedule. Without y it
    draws any digit, with y (B,) the digits asked for.

    "mnist"        a U-Net of 48 channels, trained for long: what the chapters draw with
    "mnist-small"  one of 24 channels, half the time for a call: where speed counts more
    "dit"          a diffusion transformer (models/dit.py), trained for a shorter time: chapter 16
    How each was trained, and how good it is: NAME.md in diffnotes/training/weights/.

    trainable: in training mode, with gradients, to be trained further (fine-tuning): Trainer(model, schedule, images)."""
    names = sorted(path.stem for path in WEIGHTS.glob("*.safetensors"))
    if name not in names:
        raise ValueError(
            f"name must be one of {', '.join(map(repr, names))}, got {name!r}; for a run of your own use load_model"
        )
    model, schedule = load_model(WEIGHTS / f"{name}.safetensors")
    if trainable:  # in memory as a trainer that is loaded has it, so that a run goes on to the last bit
        model = model.to(memory_format=torch.contiguous_format)
    return model.train(trainable).requires_grad_(trainable), schedule


def load_grey(keep_mean: bool = True) -> tuple[GreyDenoiser, Schedule]:
    """The network "mnist-small" with a head on its last features that gives each pixel a distribution over grey values, in eval
    mode, and the schedule (chapter 12). How it was trained: weights/grey.md. keep_mean: see GreyDenoiser."""
    tensors, metadata = checkpoint.read(GREY)
    unet, schedule = load_pretrained("mnist-small")
    head = GreyHead(**metadata["settings"])
    head.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return GreyDenoiser(unet, head, schedule.alpha_bar, keep_mean).eval().requires_grad_(False), schedule


def load_captioned() -> tuple[CaptionedUNet, Schedule]:
    """The network "mnist-small", trained further to draw what a caption says, in eval mode, and the schedule (chapter 19): y are
    numbers of captions (training/captions.py). How it was trained, and how well it obeys: weights/captioned.md."""
    tensors, metadata = checkpoint.read(CAPTIONED)
    network = CaptionedUNet(tokens=token_table(), **metadata["settings"])
    network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    unet, schedule = load_pretrained("mnist-small")
    network.item_shape, network.label_dropout = unet.item_shape, metadata["all_out"]
    return network.eval().requires_grad_(False), schedule


def load_words(name: str = "sums-masked") -> TokenTransformer:
    """A masked diffusion model of letters, in eval mode (chapter 20): model(tokens, None) gives logits by position. How each
    was trained, and how good it is: weights/words.md.

    "sums-masked"   9 signs, of load_sums()
    "prose-masked"  windows of the book's own prose, of load_prose()"""
    name = choice("name", name, tuple(sorted(path.stem for path in WORDS.glob("*.safetensors"))))
    model: TokenTransformer = load_model(WORDS / f"{name}.safetensors")[0]
    return model


def load_series() -> tuple[SeriesTransformer, Schedule]:
    """The transformer that completes series of one of two periods (chapter 22), in eval mode, and its schedule. How it was
    trained: weights/series.md."""
    model, schedule = load_model(SERIES)
    return model, schedule


def load_codes() -> tuple[VQVAE, TokenTransformer]:
    """The VQ-VAE of chapter 17, and a GPT over its tokens that takes labels: in eval mode, trained for longer than the chapter
    trains its own. vqvae.encode(x).flatten(1) turns images into rows of 49 tokens. How they were trained, and how good they are:
    weights/codes.md."""
    vqvae, gpt = (load_model(CODES / f"{name}.safetensors")[0] for name in ("vqvae", "gpt"))
    return vqvae, gpt


def load_latent() -> tuple[Autoencoder, Latents, UNet, Schedule]:
    """The autoencoder of chapter 18, the shift and scale of its codes, and a diffusion model of them with labels, in eval mode;
    and its schedule. autoencoder.decode(latents.back(z)) makes images of what is drawn. How good they are: weights/latents.md."""
    networks, numbers, schedule = load_together(LATENTS / "latent.safetensors")
    latents = Latents(tuple(numbers["shift"].tolist()), float(numbers["scale"]))
    return networks["autoencoder"], latents, networks["unet"], schedule


def load_cascade() -> tuple[UNet, ConditionedUNet, Schedule]:
    """The two stages of chapter 18's cascade, from noise to 14 x 14 pixels and from these to 28 x 28, in eval mode, and their
    schedule: for cascade_sample (process/cascade.py). How good they are: weights/latents.md."""
    networks, _, schedule = load_together(LATENTS / "cascade.safetensors")
    return networks["base"], networks["second"], schedule


def load_unclip() -> tuple[CLIP, Projection, MLPDenoiser, ConditionedUNet, Schedule]:
    """A CLIP, the projection of its image embeddings to few numbers, a prior over these given a caption, and a decoder from
    them to images (chapter 18), in eval mode; and their schedule. How good they are: weights/latents.md."""
    networks, numbers, schedule = load_together(LATENTS / "unclip.safetensors")
    projection = Projection(numbers["mean"].float(), numbers["axes"].float(), float(numbers["scale"]))
    return networks["clip"], projection, networks["prior"], networks["decoder"], schedule


def store_together(path: Path, networks: dict[str, Any], numbers: dict[str, torch.Tensor]) -> Path:
    """Write networks that belong together, and some numbers, into one file, in half precision. Schedule: cosine, T = 1000."""
    tensors = {f"numbers.{name}": value for name, value in numbers.items()}
    about = {}
    for name, network in networks.items():
        about[name] = {"class": type(network).__name__, "settings": network.settings, "item_shape": network.item_shape}
        tensors |= {f"{name}.{key}": value.half() for key, value in network.state_dict().items()}
    return checkpoint.write(path, tensors, {"networks": about, "T": 1000})


def load_together(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor], Schedule]:
    """The networks of such a file in eval mode, its numbers, and the schedule."""
    tensors, metadata = checkpoint.read(path)
    networks = {}
    for name, about in metadata["networks"].items():
        network: Any = TOGETHER[about["class"]](**about["settings"])
        kept = with_prefix(tensors, f"{name}.")
        network.load_state_dict({key: value.to(network.state_dict()[key].dtype) for key, value in kept.items()})
        network.item_shape = tuple(about["item_shape"])
        if hasattr(network, "num_classes") and network.num_classes is not None:
            network.label_dropout = 0.1
        networks[name] = network.eval().requires_grad_(False)
    return networks, with_prefix(tensors, "numbers."), Schedule.cosine(T=metadata["T"])


def export(runs: Sequence[str | Path], path: str | Path) -> Path:
    """Write to `path` what sampling needs of the runs saved in these folders: averaged weights in half precision, schedule,
    settings, and how long the last of them was trained.

    Of several runs the mean of their weights is taken. It is often better than each of them where one began with the weights
    of the other (Wortsman et al. 2022, "Model soups")."""
    tensors, metadata = checkpoint.read(runs[-1])
    kept = {n: t for n, t in tensors.items() if n.startswith(("ema.", "schedule."))}
    others = [checkpoint.read(run) for run in runs[:-1]]
    if any(about["model"] != metadata["model"] for _, about in others):
        raise ValueError("runs must be of networks with the same settings: the mean of others has no meaning")
    for name in kept:
        if name.startswith("ema."):
            same = torch.stack([kept[name], *(weights[name] for weights, _ in others)])
            kept[name] = same.double().mean(0).half()
    return checkpoint.write(path, kept, metadata)


if __name__ == "__main__":  # make weights: python -m diffnotes.training.pretrained RUN [RUN ...] NAME
    print(export(sys.argv[1:-1], WEIGHTS / f"{sys.argv[-1]}.safetensors"))
