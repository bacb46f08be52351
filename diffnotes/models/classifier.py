"""A small classifier of digits, whose last hidden layer gives the features in which images are compared.

It judges samples and generates none: Fréchet distance, precision and recall are taken in its features (training/metrics.py).
"""

from jaxtyping import Float
from torch import Tensor, nn

from diffnotes.models.arguments import IntLike, check_tensor, integer
from diffnotes.models.unet import Images


class Classifier(nn.Module):
    """classifier(x): the logits of the labels for images x (B, 1, 28, 28) in [-1, 1]; softmax makes probabilities.

    `features(x)`: the last hidden layer, (B, dim), in which distances between images are taken."""

    def __init__(self, width: IntLike = 32, dim: IntLike = 64, num_classes: IntLike = 10) -> None:
        super().__init__()
        width, dim = integer("width", width, "at least 1", 1), integer("dim", dim, "at least 1", 1)
        num_classes = integer("num_classes", num_classes, "at least 1", 1)
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
        """The features of each image, (B, dim)."""
        check_tensor("x", x, ("B", 1, 28, 28), self)
        return self.head(self.convolutions(x))

    def forward(self, x: Images) -> Float[Tensor, "batch label"]:
        """The logits of the labels, (B, num_classes)."""
        return self.logits(self.features(x))
