"""A small network that names the digit in an image, and whose last hidden layer describes how the digit is written.

It does not draw: it judges. Samples are compared with real images by what it sees in both (training/metrics.py).
"""

from jaxtyping import Float
from torch import Tensor, nn

from diffnotes.models.unet import Images


class Classifier(nn.Module):
    """classifier(x): the scores (logits) of the labels for images x (B, 1, 28, 28) in [-1, 1]; softmax makes probabilities.

    `features(x)`: the last hidden layer, (B, dim), in which distances between images are taken."""

    def __init__(self, width: int = 32, dim: int = 64, num_classes: int = 10) -> None:
        super().__init__()
        self.settings = dict(width=width, dim=dim, num_classes=num_classes)

        def convolution(channels_in: int, channels_out: int, size: int = 3, stride: int = 1) -> list[nn.Module]:
            layer = nn.Conv2d(channels_in, channels_out, size, stride=stride, padding=size // 2, bias=False)
            return [layer, nn.BatchNorm2d(channels_out), nn.ReLU()]

        self.convolutions = nn.Sequential(
            *convolution(1, width, size=5, stride=2),  # 14 x 14
            *convolution(width, 2 * width),
            nn.MaxPool2d(2),  # 7 x 7
            *convolution(2 * width, 3 * width),
            *convolution(3 * width, 3 * width),
            nn.MaxPool2d(3, stride=2, padding=1),  # 4 x 4
            *convolution(3 * width, 2 * width),
            nn.Flatten(),
        )
        self.head = nn.Sequential(nn.Linear(2 * width * 4 * 4, dim), nn.BatchNorm1d(dim), nn.ReLU())
        self.logits = nn.Linear(dim, num_classes)

    def features(self, x: Images) -> Float[Tensor, "batch dim"]:
        """What the classifier sees in each image, (B, dim)."""
        if x.ndim != 4 or x.shape[1:] != (1, 28, 28):
            raise ValueError(f"x must be a batch of grey images (B, 1, 28, 28), got shape {tuple(x.shape)}")
        return self.head(self.convolutions(x))

    def forward(self, x: Images) -> Float[Tensor, "batch label"]:
        """The scores (logits) of the labels, (B, num_classes)."""
        return self.logits(self.features(x))
