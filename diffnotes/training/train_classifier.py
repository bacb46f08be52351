"""Train the classifier that the measures of quality look through, and store its weights in the package.

python -m diffnotes.training.train_classifier          (a part of make weights; a quarter of an hour on one core)
"""

import argparse
import math
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from diffnotes.models.classifier import Classifier
from diffnotes.training import checkpoint
from diffnotes.training.data import Images, load_images
from diffnotes.training.metrics import CLASSIFIER


def augment(x: Tensor, g: torch.Generator) -> Tensor:
    """Each image turned by up to 12 degrees, sheared, enlarged or shrunk by up to a tenth, and shifted by up to 2 pixels."""

    def within(size: float) -> Tensor:
        return (2 * torch.rand(len(x), generator=g) - 1) * size

    angle, shear, size = within(12 * math.pi / 180), within(0.15), 1 + within(0.1)
    row_1 = torch.stack([size * angle.cos(), shear - size * angle.sin(), within(2 / 14)], dim=1)
    row_2 = torch.stack([size * angle.sin(), size * angle.cos(), within(2 / 14)], dim=1)
    places = F.affine_grid(torch.stack([row_1, row_2], dim=1), list(x.shape), align_corners=False)
    return F.grid_sample(x + 1, places, align_corners=False) - 1  # outside the picture is black


def non_digits(x: Tensor, g: torch.Generator) -> Tensor:
    """As many pictures that are no digits: a third noise, a third smooth blots, a third digits (those in x) drowned in noise."""
    third = len(x) // 3
    noise, coarse = torch.randn(x.shape, generator=g), torch.randn(len(x), 1, 7, 7, generator=g)
    blots = F.interpolate(coarse, size=x.shape[2:], mode="bicubic")
    strength = torch.rand(len(x), 1, 1, 1, generator=g)
    pictures = torch.cat(
        [
            (0.2 + 1.5 * strength[:third]) * noise[:third] - strength[:third].flip(0),
            (0.5 + 2 * strength[third : 2 * third]) * blots[third : 2 * third] - strength[third : 2 * third].flip(0),
            0.4 * strength[2 * third :] * x[2 * third :] + noise[2 * third :],
        ]
    )
    return pictures.clamp(-1, 1)


def train(images: Images, epochs: int = 8, batch: int = 128, seed: int = 0) -> Classifier:
    """A classifier trained on the images: AdamW, the learning rate rising and falling once, every image moved anew. Beside
    every eight digits it sees one picture that is none, and is to give all labels the same probability."""
    torch.manual_seed(seed)
    g = torch.Generator().manual_seed(seed)
    classifier = Classifier()
    per_epoch = len(images.x) // batch
    optimizer = torch.optim.AdamW(classifier.parameters(), weight_decay=0.05)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=epochs * per_epoch)
    for epoch in range(epochs):
        order = torch.randperm(len(images.x), generator=g)
        for index in tqdm(order[: per_epoch * batch].split(batch), desc=f"epoch {epoch + 1} of {epochs}"):
            x = augment(images.x[index], g)
            scores = classifier(torch.cat([x, non_digits(x[: batch // 8], g)]))
            loss = F.cross_entropy(scores[:batch], images.y[index]) - scores[batch:].log_softmax(1).mean() / 8
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
    return classifier.eval().requires_grad_(False)


@torch.no_grad()
def accuracy(classifier: Classifier, images: Images) -> float:
    """Share of the images whose label the classifier names."""
    named = torch.cat([classifier(x).argmax(1) for x in images.x.split(500)])
    return (named == images.y).double().mean().item()


def main() -> None:
    """Train on MNIST's 60,000 training images, test on its 10,000 others, and store what came out."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path, default=CLASSIFIER)
    options = parser.parse_args()
    started = time.perf_counter()
    classifier = train(load_images("mnist", "train"), epochs=options.epochs)
    share = accuracy(classifier, load_images("mnist", "test"))
    card = {
        "settings": classifier.settings,
        "accuracy": share,
        "epochs": options.epochs,
        "seconds": round(time.perf_counter() - started),
    }
    halves = {name: w.half() if w.is_floating_point() else w for name, w in classifier.state_dict().items()}
    path = checkpoint.write(options.out, halves, card)
    print(f"{share:.2%} of the test images right; {path}, {path.stat().st_size / 1e6:.2f} MB, {card['seconds']} s")


if __name__ == "__main__":
    main()
