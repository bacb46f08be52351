"""How good are the samples? Five numbers, each with its error, and each blind to something.

All of them look at images through one small classifier of digits (models/classifier.py, whose weights come with the
package): at the probabilities it gives to the ten labels, and at its last hidden layer, the features, in which two images
are near when the classifier sees the same in them. So they hold for MNIST, and compare only with numbers made through the
same classifier, from as many samples.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from diffnotes.models.classifier import Classifier
from diffnotes.process.arguments import array, check_images, integer, integers, shown
from diffnotes.process.choose import sample_with
from diffnotes.process.guidance import ClassifierFreeGuidance
from diffnotes.process.losses import Denoiser
from diffnotes.process.samplers import initial_noise
from diffnotes.process.schedules import Schedule
from diffnotes.training import checkpoint
from diffnotes.training.pretrained import WEIGHTS
from diffnotes.training.restore import class_names_of, item_shape_of

Pictures = Float[Tensor, "_ channel height width"]  # of any number
Features = Float[np.ndarray, "_ dim"]
Probabilities = Float[np.ndarray, "_ label"]
CLASSIFIER = WEIGHTS / "classifier" / "mnist.safetensors"
CONFIDENT = 0.95
JACKKNIFE = 8  # groups, each left out once


@dataclass(frozen=True)
class Measured:
    """A number and its standard error, from a bootstrap over the samples."""

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:.3g} ± {self.error:.1g}"


@dataclass(frozen=True)
class Quality:
    """What `quality` measured on `number` samples.

    frechet      Fréchet distance d^2 (book, eq. 6.6) between the features of samples and of real images; 0 is best
    recognised   share of samples to which the classifier gives a label with a probability above 0.95
    entropy      of the labels given, in nats: ln 10 = 2.303 if all ten digits come equally often
    precision    share of samples that lie among real images
    recall       share of real images that lie among samples"""

    number: int
    frechet: Measured
    recognised: Measured
    entropy: Measured
    precision: Measured
    recall: Measured

    def __str__(self) -> str:
        parts = [f"{field.name} {getattr(self, field.name)}" for field in fields(self)[1:]]
        return f"{', '.join(parts)}, from {self.number:,} samples"


@dataclass(frozen=True)
class Extrapolated:
    """A Fréchet distance in the limit of infinitely many samples.

    value   the intercept of the line through (1/n, mean distance of n samples), and its standard error (a jackknife that
            leaves out an eighth of the samples)
    slope   of the line: a distance from n samples is too large by about slope / n
    table   (n, mean distance of disjoint parts of n samples), the points of the line"""

    value: float
    error: float
    slope: float
    table: tuple[tuple[int, float], ...]


@functools.cache
def load_classifier() -> Classifier:
    """The classifier that comes with the package, in eval mode. How good it is: diffnotes/training/weights/classifier.md."""
    tensors, metadata = checkpoint.read(CLASSIFIER)
    classifier = Classifier(**metadata["settings"])
    classifier.load_state_dict(tensors)
    return classifier.eval().requires_grad_(False)


@torch.no_grad()
def features_and_probabilities(x: Pictures, classifier: Classifier | None = None) -> tuple[Features, Probabilities]:
    """Features (N, dim) and probabilities of the labels (N, 10) of images x (N, 1, 28, 28), both float64. Values beyond
    [-1, 1] are cut off: a screen cannot show them."""
    classifier = classifier or load_classifier()
    seen, said = [], []
    for part in x.detach().cpu().float().clamp(-1, 1).split(500):
        seen.append(classifier.features(part))
        said.append(classifier.logits(seen[-1]).double().softmax(1))
    return torch.cat(seen).double().numpy(), torch.cat(said).numpy()


def frechet_distance(a: Features, b: Features) -> float:
    """|mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)), A and B the covariances of the features a (N, dim) and b (M, dim)
    (book, eq. 6.6; Heusel et al. 2017, eq. 6): the squared distance between two Gaussians with these moments."""
    from scipy.linalg import eigh, eigvalsh

    a = _features("a", a)
    b = _features("b", b, like=a)
    A, B = (np.atleast_2d(np.cov(features, rowvar=False)) for features in (a, b))
    scale, axes = eigh(A)
    root = axes * np.sqrt(scale.clip(min=0)) @ axes.T  # A^(1/2); A^(1/2) B A^(1/2) has the eigenvalues of A B
    of_the_root = np.sqrt(eigvalsh(root @ B @ root).clip(min=0))
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(A) + np.trace(B) - 2 * of_the_root.sum())


def _features(name: str, values: Features, like: Features | None = None) -> Features:
    """Features of two or more images, (N, dim), finite; of as many dimensions as others."""
    features = array(name, values, "fiu", "hold features of images, (N, dim)").astype(float)
    if features.ndim != 2 or len(features) < 2 or features.shape[1] == 0:
        raise ValueError(f"{name} must hold features of two or more images, (N, dim), got shape {features.shape}")
    if not np.isfinite(features).all():
        raise ValueError(f"{name} must hold finite features, got nan or infinity")
    if like is not None and features.shape[1] != like.shape[1]:
        raise ValueError(f"{name} must have {like.shape[1]} dimensions, as the others have, got {features.shape[1]}")
    return features


def recognised(probabilities: Probabilities) -> Float[np.ndarray, "_"]:
    """1 for each image that the classifier names with a probability above 0.95, else 0."""
    return (probabilities.max(1) > CONFIDENT).astype(float)


def label_entropy(probabilities: Probabilities) -> float:
    """sum_k p_k ln(1 / p_k), where p_k is the share of images that the classifier would name k, in nats."""
    share = np.bincount(probabilities.argmax(1), minlength=probabilities.shape[1]) / len(probabilities)
    return float((share[share > 0] * np.log(1 / share[share > 0])).sum())


def in_manifold(these: Features, those: Features, k: int = 3) -> Float[np.ndarray, "_"]:
    """1 for each of `these` that is at least as near to one of `those` as that one's k-th neighbour in its own set, else 0
    (book, eq. 6.7). Its mean is the precision if these are samples and those real images, and the recall if the other way
    round (Kynkäänniemi et al. 2019, section 2)."""
    these = _features("these", these)
    those = _features("those", those, like=these)
    if not 1 <= integer("k", k, 0) < len(those):
        raise ValueError(f"k must lie between 1 and {len(those) - 1}, one less than there are points, got {k}")
    k = int(k)
    points = torch.as_tensor(those)
    parts = points.split(1000)  # all distances at once would fill the memory
    radius = torch.cat([torch.cdist(part, points).kthvalue(k + 1).values for part in parts])  # the nearest is itself
    inside = [(torch.cdist(part, points) <= radius).any(1) for part in torch.as_tensor(these).split(1000)]
    return torch.cat(inside).double().numpy()


def inception_score(probabilities: Probabilities) -> float:
    """exp of the mean of KL(p(y|x) || p(y)) over the images, p(y) the mean of their p(y|x) (book, eq. 21.10; Salimans et al.
    2016): from 1, if all images get one answer, to the number of labels, if the answers are certain and evenly spread.

    It is "the Inception Score" with the probabilities of the network Inception on ImageNet; with those of this package's
    classifier of MNIST it is a score of the same form, and compares only with its like."""
    p = array("probabilities", probabilities, "fiu", "hold the probabilities of labels, (N, K)").astype(float)
    if p.ndim != 2 or 0 in p.shape:
        raise ValueError(
            f"probabilities must hold those of the labels of one or more images, (N, K), got shape {p.shape}"
        )
    if not (np.isfinite(p).all() and (p >= 0).all() and np.allclose(p.sum(1), 1, atol=1e-4)):
        raise ValueError("probabilities must be numbers >= 0 with the sum 1 for each image")
    mean = p.mean(0)
    terms = p * (np.log(np.where(p > 0, p, 1)) - np.log(np.where(mean > 0, mean, 1)))  # 0 log 0 = 0
    return float(np.exp(terms.sum(1).mean()))


def frechet_infinity(a: Features, b: Features, parts: Sequence[int] = (8, 4, 2, 1), seed: int = 0) -> Extrapolated:
    """The Fréchet distance from features a (N, dim) of samples to b (M, dim) of real images, extrapolated to N = infinity
    (book, eq. 21.12; Chong and Forsyth 2020): for each number in `parts`, a in random order is cut into so many parts and
    their distances are averaged; least squares of these means in 1/n give value and slope. The bias that comes from M remains."""
    a = _features("a", a)
    b = _features("b", b, like=a)
    counts = sorted(set(integers("parts", parts, "hold integers, two or more different ones").flatten().tolist()))
    if len(counts) < 2 or counts[0] < 1 or 2 * counts[-1] > len(a) * (JACKKNIFE - 1) // JACKKNIFE:
        raise ValueError(
            f"parts must be two or more different numbers >= 1 that leave two samples to a part, got {shown(parts)} for "
            f"{len(a)} samples"
        )
    order = np.random.default_rng(integer("seed", seed, 0)).permutation(len(a))
    value, slope, table = _line(a[order], b, counts)
    groups = np.arange(len(a)) % JACKKNIFE
    left_out = np.array([_line(a[order][groups != g], b, counts)[0] for g in range(JACKKNIFE)])
    error = math.sqrt((JACKKNIFE - 1) / JACKKNIFE * ((left_out - left_out.mean()) ** 2).sum())
    return Extrapolated(value, error, slope, table)


def _line(a: Features, b: Features, counts: list[int]) -> tuple[float, float, tuple[tuple[int, float], ...]]:
    """Intercept and slope of the mean distances in 1/n, and the points."""
    points = []
    for count in reversed(counts):
        n = len(a) // count
        points.append((n, float(np.mean([frechet_distance(a[i * n : (i + 1) * n], b) for i in range(count)]))))
    numbers, distances = np.array(points).T
    slope, value = np.polyfit(1 / numbers, distances, 1)
    return float(value), float(slope), tuple(points)


def quality(samples: Pictures, real: Pictures, *, k: int = 3, bootstrap: int = 40, seed: int = 0) -> Quality:
    """The five measures of samples (N, 1, 28, 28) against real images (M, 1, 28, 28) that no network was trained on.

    The standard errors come from `bootstrap` draws of N out of the N samples, with replacement (for the recall: of M out
    of the M real images); the real images and the neighbourhoods stay. A Fréchet distance from few samples is too large
    by about as much for everyone: compare at equal N."""
    for name, x in (("samples", samples), ("real", real)):
        if len(x) <= k:
            raise ValueError(f"{name} must hold more than k = {k} images, got {len(x)}")
    (seen, said), (seen_real, _) = features_and_probabilities(samples), features_and_probabilities(real)
    dice = np.random.default_rng(seed)

    def measured(number: int, measure: Callable[[np.ndarray], float]) -> Measured:
        tries = [measure(dice.integers(number, size=number)) for _ in range(bootstrap)]
        return Measured(measure(np.arange(number)), float(np.std(tries, ddof=1)))

    n, sure = len(samples), recognised(said)
    inside, covered = in_manifold(seen, seen_real, k), in_manifold(seen_real, seen, k)
    return Quality(
        number=n,
        frechet=measured(n, lambda i: frechet_distance(seen[i], seen_real)),
        recognised=measured(n, lambda i: float(sure[i].mean())),
        entropy=measured(n, lambda i: label_entropy(said[i])),
        precision=measured(n, lambda i: float(inside[i].mean())),
        recall=measured(len(real), lambda i: float(covered[i].mean())),
    )


def held_out(images: Pictures, number: int = 2000, seed: int = 0) -> tuple[Pictures, Pictures]:
    """Test images divided by lot: `number` of them, to stand in for samples of a perfect model, and the others to measure
    against. Returns (those of the perfect model, those to measure against)."""
    check_images(images=images)
    if not 0 < integer("number", number, 0) < len(images):
        raise ValueError(f"number must lie between 1 and {len(images) - 1}, got {number}")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(integer("seed", seed, 0, 2**63 - 1)))
    number = int(number)
    return images[order[:number]], images[order[number:]]


def draw_samples(
    model: Denoiser,
    schedule: Schedule,
    number: int,
    *,
    solver: str = "ddim",
    steps: int | None = None,
    eta: float = 0.0,
    labels: bool | Integer[Tensor, "number"] = False,
    guidance: float = 1.0,
    clip: bool = False,
    seed: int = 0,
) -> Pictures:
    """Samples to measure: (number, C, H, W), of the shape that the model was trained on, a hundred at a time, drawn on the
    device where the model's weights are and returned on the CPU.

    solver, steps, eta: as sample_with (process/choose.py) has them; eta is DDIM's alone, 0 without fresh noise and 1 with
    that of DDPM. labels, for a model that takes them: True for all of them in turn, or those to draw, (number,); with them
    classifier-free guidance of the scale `guidance` (1: none). With clip, each prediction of the image is cut to [-1, 1]
    (book, eq. 7.7). Image i depends on the seed and on i only."""
    with_labels = isinstance(labels, Tensor) or labels
    if isinstance(labels, Tensor) and labels.shape != (number,):
        raise ValueError(f"labels must be True, False, or one for each of the {number} samples, got {shown(labels)}")
    if guidance != 1 and not with_labels:
        raise ValueError(f"guidance must be 1 without labels, which it leans towards, got {guidance}")
    shape, K = item_shape_of(model), len(class_names_of(model)) or 10
    weight = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    device = torch.device("cpu") if weight is None else weight.device
    model = ClassifierFreeGuidance(model, guidance)
    x_T, y = initial_noise(seed, number, shape), labels if isinstance(labels, Tensor) else torch.arange(number) % K
    ends = []
    for i in range(0, number, 100):
        part = slice(i, i + 100)
        asked = y[part] if with_labels else None
        x = x_T[part].to(device)
        *_, last = sample_with(
            model, schedule, x, solver=solver, steps=steps, eta=eta, y=asked, clip=clip, generator=seed + i
        )
        ends.append(last.x_t.cpu())
    return torch.cat(ends)
