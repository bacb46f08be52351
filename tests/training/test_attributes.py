"""The meters of drawn digits: shears, zooms and ribbons whose slant, size and thickness are known beforehand."""

import math
import re

import numpy as np
import pytest
import torch
from scipy import ndimage

from diffnotes import load_images
from diffnotes.training import attributes
from diffnotes.training.attributes import attribute_words, ink, readings, size, slant, thickness, zoom


@pytest.fixture(scope="module")
def digits() -> torch.Tensor:
    return load_images("digits", "train", size=28).x[:200]


def ribbon(width: float, length: float, angle: float, n: int = 28, fine: int = 8) -> torch.Tensor:
    """A straight ribbon in the middle of the picture, its edge antialiased, (1, 1, n, n)."""
    at = (np.arange(n * fine) + 0.5) / fine - n / 2
    y, x = np.meshgrid(at, at, indexing="ij")
    along, across = x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)
    inside = (abs(along) < length / 2) & (abs(across) < width / 2)
    return torch.tensor(inside.reshape(n, fine, n, fine).mean((1, 3)) * 2 - 1).float()[None, None]


def moments_by_hand(picture: np.ndarray) -> float:
    rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]]
    r, c = ndimage.center_of_mass(picture)
    return float(-(picture * (columns - c) * (rows - r)).sum() / (picture * (rows - r) ** 2).sum())


def test_the_slant_is_the_ratio_of_moments(digits):
    by_hand = [moments_by_hand(picture.double().numpy()) for picture in ink(digits)[:20, 0]]
    np.testing.assert_allclose(slant(digits[:20]).numpy(), by_hand, atol=1e-5)


@pytest.mark.parametrize(("u", "k"), [(1.0, -0.4), (1.0, -0.2), (1.0, 0.2), (1.0, 0.4), (0.7, 0.3)])
def test_a_shear_by_k_moves_the_slant_by_k_whatever_the_zoom(digits, u, k):
    moved = slant(zoom(digits, u, k)) - slant(zoom(digits, u))
    assert moved.mean().item() == pytest.approx(k, abs=0.01)
    assert moved.std() < 0.03


def test_a_stroke_that_leans_right_is_positive():
    leaning = ribbon(3, 18, math.pi / 2 + 0.3)  # rows count downwards
    assert slant(ribbon(3, 18, math.pi / 2)).item() == pytest.approx(0, abs=0.02)
    assert slant(leaning).item() * slant(leaning.flip(3)).item() < 0
    upper, lower = ink(leaning)[0, 0, :14].sum(0), ink(leaning)[0, 0, 14:].sum(0)
    further_right = (upper @ torch.arange(28.0) / upper.sum()) > (lower @ torch.arange(28.0) / lower.sum())
    assert bool(further_right) == (slant(leaning).item() > 0)


@pytest.mark.parametrize("width", [2.0, 3.0, 4.0])
def test_ribbons_read_their_width_in_every_direction(width):
    expected = width / (1 + width / 18)
    found = [thickness(ribbon(width, 18, angle)).item() for angle in np.linspace(0, math.pi, 12, endpoint=False)]
    assert np.abs(np.array(found) - expected).max() < 0.11
    assert np.mean(found) == pytest.approx(expected, abs=0.09)


def test_thickness_goes_with_the_distance_to_the_edge(digits):
    """scipy's distance transform is computed without edges and areas."""
    inside = [ndimage.distance_transform_edt(picture > 0.5) for picture in ink(digits)[:, 0].numpy()]
    mean_distance = [d[d > 0].mean() for d in inside]
    assert np.corrcoef(thickness(digits).numpy(), mean_distance)[0, 1] > 0.8


def test_thicker_strokes_and_fainter_ink(digits):
    wider = torch.nn.functional.max_pool2d(digits, 3, 1, 1)
    assert (thickness(wider) > thickness(digits)).all()
    on_ribbons = ribbon(3, 18, 0.4)
    assert thickness((on_ribbons + 1) * 0.7 - 1).item() == pytest.approx(thickness(on_ribbons).item(), rel=0.03)


def test_size_is_the_larger_side_of_the_box():
    x = torch.full((3, 1, 28, 28), -1.0)
    x[0, :, 4:9, 3:20] = 1.0
    x[1, :, 2:22, 3:5] = 1.0
    assert size(x).tolist() == [17.0, 20.0, 0.0]


def test_every_digit_of_mnist_has_a_box_of_20_pixels(mnist_test):
    some = mnist_test.x[:2000]
    assert (size(some) == 20).float().mean() > 0.995
    for u in (0.6, 0.8):
        assert size(zoom(some, u)).mean().item() == pytest.approx(20 * u, abs=0.35)


def test_what_is_fainter_than_a_tenth_is_paper(digits):
    speck = digits.clone()
    speck[:, :, 0, 27] = -0.9
    assert torch.equal(readings(speck), readings(digits))


def test_words_are_parts_of_the_scales(digits):
    words, found = attribute_words(digits), readings(digits)
    edges = (attributes.THICKNESS_EDGES, attributes.SIZE_EDGES, attributes.SLANT_EDGES)
    for k, (low, high) in enumerate(edges):
        expected = [0 if v < low else 1 if v < high else 2 for v in found[:, k].tolist()]
        assert words[:, k].tolist() == expected


def test_paper_has_no_words_that_could_be_right():
    paper = torch.full((1, 1, 28, 28), -1.0)
    assert readings(paper)[0, [0, 2]].isnan().all() and size(paper).item() == 0
    assert attribute_words(paper).tolist() == [[2, 0, 2]]


def test_zooming_and_shearing_each_picture_by_its_own(digits):
    u, k = torch.tensor([0.7, 0.9]), torch.tensor([0.1, -0.2])
    both = zoom(digits[:2], u, k)
    for i in range(2):
        assert torch.allclose(both[i : i + 1], zoom(digits[i : i + 1], u[i].item(), k[i].item()), atol=1e-6)
    assert torch.allclose(zoom(digits[:3]), digits[:3], atol=1e-5)


@pytest.mark.usefixtures("as_installed")
@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: slant(x.expand(-1, 3, -1, -1)), "x must be grey pictures (B, 1, H, W), got (2, 3, 28, 28)"),
        (lambda x: zoom(x, 0.0), "factor must be positive, got 0"),
        (lambda x: zoom(x, torch.ones(3)), "factor must be a finite number, or one for each of the 2 pictures"),
        (lambda x: zoom(x, 1.0, math.inf), "shear must be a finite number, got inf"),
    ],
)
def test_wrong_arguments_are_named(digits, call, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        call(digits[:2])
