"""The networks that are compared, each made by a function without arguments and called as model(x_t, t, y).

The peers come from diffusers and from denoising-diffusion-pytorch. Our own U-Net also appears in the layout of either
network of diffusers, so that the code can be compared apart from the size.
"""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from diffnotes import UNet

NAMES = ("ours", "course", "ours_like_course", "large", "ours_like_large", "ddpm_pytorch")
OURS = dict(channels=32, multipliers=(1, 2), blocks=1, patch=2, num_classes=10, target="v")  # the network of chapter 6
CONFIG = dict(learning_rate=4e-3, warmup=50)  # and how it is trained there
LOSS = dict(min_snr=None, logit_normal=(0.3, 1.0))
TWINS = {"course": "ours_like_course", "large": "ours_like_large"}  # the peer, and our U-Net in its layout


class Peer(nn.Module):
    """Someone else's network, called like ours. Times run over 1..T here and over 0..T-1 there."""

    def __init__(self, network: nn.Module, target: str, num_classes: int | None = None) -> None:
        super().__init__()
        self.network, self.target, self.num_classes, self.settings = network, target, num_classes, {}
        # the course gives the label as four more channels, each of one value; the last label is our "no label"
        self.label = None if num_classes is None else nn.Embedding(num_classes + 1, 4)

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """The prediction for x_t (B, 1, H, W) at times t (B,), of x_t's shape. y: labels (B,), if it was made for them."""
        given = x_t
        if self.label is not None:
            said = torch.full_like(t, self.label.num_embeddings - 1) if y is None else y
            given = torch.cat([x_t, self.label(said)[:, :, None, None].expand(-1, -1, *x_t.shape[-2:])], dim=1)
        answer = self.network(given, t - 1)
        return getattr(answer, "sample", answer)  # diffusers wraps the tensor


def ours(target: str = "v", num_classes: int | None = 10, input_mean: Tensor | None = None) -> UNet:
    """The network of chapter 6, which takes labels."""
    return UNet(**{**OURS, "target": target, "num_classes": num_classes, "input_mean": input_mean})


def ours_like_course(target: str = "eps") -> UNet:
    """Our U-Net in the layout of `course`."""
    return UNet(channels=32, multipliers=(1, 2, 2), blocks=2, attention=2, target=target)


def ours_like_large(target: str = "eps") -> UNet:
    """Our U-Net in the layout of `large`, with attention on the smallest level instead of twice in the middle."""
    return UNet(channels=96, multipliers=(1, 2, 2), blocks=2, attention=1, target=target)


def course(target: str = "eps") -> Peer:
    """diffusers' UNet2DModel as the Hugging Face diffusion course builds it for MNIST (unit 1, 'from scratch')."""
    return _diffusers((32, 64, 64), (False, True, True), target)


def course_labels(target: str = "eps") -> Peer:
    """The same with labels, as the course builds it in unit 2 ('class-conditioned')."""
    return _diffusers((32, 64, 64), (False, True, True), target, num_classes=10)


def large(target: str = "eps") -> Peer:
    """diffusers' UNet2DModel with 96, 192, 192 channels: 13.8 million parameters if it attends in the middle only."""
    return _diffusers((96, 192, 192), (False, False, False), target)


def ddpm_pytorch(target: str = "v") -> Peer:
    """denoising-diffusion-pytorch's Unet with dim = 64 and three levels. ImportError if that package is not installed."""
    there = "torchvision" in sys.modules
    if not there:
        # The module of this Unet imports torchvision (for a trainer that is not used here), whose compiled part must
        # fit the build of torch exactly, and whose usual wheel does not fit torch's CPU build. An empty one will do.
        stand_in = ModuleType("torchvision")
        stand_in.__spec__ = ModuleSpec("torchvision", None)
        stand_in.transforms = stand_in.utils = ModuleType("torchvision.transforms")
        sys.modules["torchvision"] = stand_in
    try:
        from denoising_diffusion_pytorch import Unet
    finally:
        if not there:
            del sys.modules["torchvision"]
    return Peer(Unet(dim=64, dim_mults=(1, 2, 4), channels=1), target)


def _diffusers(widths: tuple[int, ...], attend: tuple[bool, ...], target: str, num_classes: int | None = None) -> Peer:
    from diffusers import UNet2DModel

    network = UNet2DModel(
        sample_size=28,
        in_channels=1 if num_classes is None else 1 + 4,
        out_channels=1,
        layers_per_block=2,
        block_out_channels=widths,
        down_block_types=["AttnDownBlock2D" if yes else "DownBlock2D" for yes in attend],
        up_block_types=["AttnUpBlock2D" if yes else "UpBlock2D" for yes in reversed(attend)],
    )
    return Peer(network, target, num_classes)


def build(name: str) -> nn.Module:
    """The network of that name, with the same random first weights each time."""
    if name not in NAMES:
        raise ValueError(f"name must be one of {', '.join(NAMES)}, got {name!r}")
    torch.manual_seed(0)
    return globals()[name]()


def parameters(model: nn.Module) -> int:
    """The number of trained numbers in the model."""
    return sum(p.numel() for p in model.parameters())


def flops(model: nn.Module, side: int = 28, backward: bool = False) -> int:
    """Floating-point operations for one image of side x side pixels, forward, or forward and backward, as
    torch.utils.flop_counter counts them: convolutions and matrix products, one multiplication and one addition each."""
    x_t, t = torch.zeros(1, 1, side, side), torch.ones(1, dtype=torch.long)
    # fused attention is counted as the matrix products that it is made of
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        answer = model(x_t, t)
        if backward:
            answer.sum().backward()
    model.zero_grad()
    return counter.get_total_flops()
