"""Images: what is taken, what is refused and with which words, batches, and the digest that a checkpoint compares."""

import copy
import hashlib
import pickle
import re

import numpy as np
import pytest
import torch

from diffnotes import Images, load_images


def numbered(n: int = 5, shape: tuple[int, ...] = (3, 4, 6)) -> torch.Tensor:
    """Images whose values all differ and lie evenly over [-1, 1]."""
    return torch.linspace(-1, 1, n * int(np.prod(shape))).reshape(n, *shape)


def made(x=None, y=None, **more) -> Images:
    x = numbered() if x is None else x
    return Images(x, torch.arange(len(x)) if y is None else y, "mine", "made here", **more)


# -- what is taken ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("C, H, W", [(1, 28, 28), (3, 32, 32), (3, 4, 6), (1, 1, 9)])
def test_shape_of_an_item_is_that_of_the_images(C, H, W):
    images = made(numbered(2, (C, H, W)))
    assert images.item_shape == (C, H, W) and len(images) == 2
    assert images.x.dtype == torch.float32 and images.y.dtype == torch.int64


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x.double(),
        lambda x: x.numpy(),
        lambda x: x.double().numpy(),
        lambda x: x.flip(0).numpy()[::-1],
        lambda x: x.tolist(),
        lambda x: x.clone().requires_grad_(),
        lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    ],
    ids=["float64", "numpy", "numpy float64", "reversed numpy", "list", "with gradient", "not contiguous"],
)
def test_images_of_other_kinds_become_float32_tensors(convert):
    images = made(convert(numbered()))
    assert torch.equal(images.x, numbered()) and images.x.dtype == torch.float32 and not images.x.requires_grad
    assert images.digest() == made().digest()


def test_half_precision_is_taken_up_to_its_rounding():
    assert (made(numbered().half()).x - numbered()).abs().max() < 1e-3


@pytest.mark.parametrize(
    "labels",
    [
        [2, 0, 1, 2, 0],
        (2, 0, 1, 2, 0),
        [2.0, 0.0, 1.0, 2.0, 0.0],
        np.array([2, 0, 1, 2, 0], np.uint8),
        np.array([0, 2, 1, 0, 2])[::-1],
        np.array([2, 0, 1, 2, 0], np.float64),
        torch.tensor([2, 0, 1, 2, 0], dtype=torch.uint8),
        torch.tensor([2, 0, 1, 2, 0], dtype=torch.int16),
        torch.tensor([2, 0, 1, 2, 0], dtype=torch.float32),
        [np.int64(2), np.int64(0), np.int64(1), np.int64(2), np.int64(0)],
    ],
)
def test_labels_of_any_kind_become_long(labels):
    images = made(y=labels)
    assert images.y.tolist() == [2, 0, 1, 2, 0] and images.y.dtype == torch.int64


def test_labels_that_are_true_and_false_are_two_classes():
    images = made(y=torch.tensor([True, False, True, True, False]))
    assert images.y.tolist() == [1, 0, 1, 1, 0] and images.num_classes == 2


def test_number_of_classes_is_that_of_the_names_and_without_names_one_more_than_the_highest_label():
    assert made(y=[0, 3, 1, 0, 0]).num_classes == 4
    assert made(y=[0, 3, 1, 0, 0], classes=("a", "b", "c", "d", "never seen")).num_classes == 5
    assert made(y=[0] * 5).num_classes == 1


def test_class_names_may_come_as_a_list():
    assert made(y=[0, 1, 1, 0, 0], classes=["cat", "dog"]).classes == ("cat", "dog")


def test_digits_and_mnist_have_names_for_their_classes():
    assert load_images("digits").classes == tuple("0123456789") and load_images("digits").num_classes == 10


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "x, words",
    [
        (
            ((numbered() + 1) * 127.5).to(torch.uint8),
            r"^x must hold floating-point numbers in \[-1, 1\], got dtype torch.uint8; "
            r"bytes 0..255 become that by x / 127.5 - 1$",
        ),
        (numbered().long(), r"^x must hold floating-point numbers in \[-1, 1\], got dtype torch.int64$"),
        (numbered().bool(), r"got dtype torch.bool$"),
        (numbered().to(torch.complex64), r"got dtype torch.complex64$"),
        (numbered()[0], r"^x must have the shape \(N, C, H, W\) with C = 1 or 3, got \(3, 4, 6\)$"),
        (numbered(2, (2, 4, 4)), r"got \(2, 2, 4, 4\)$"),
        (numbered(2, (28, 28, 1)), r"got \(2, 28, 28, 1\)$"),
        (torch.zeros(5, 1, 0, 4), r"got \(5, 1, 0, 4\)$"),
        (torch.full((5, 1, 2, 2), torch.nan), r"^x must be finite, got nan or infinite values$"),
        (torch.full((5, 1, 2, 2), -torch.inf), r"^x must be finite, got nan or infinite values$"),
        ("pictures", r"^x must be a tensor of images \(N, C, H, W\), got str \("),
        ([[1.0, 2.0], [3.0]], r"^x must be a tensor of images \(N, C, H, W\), got list \("),
    ],
)
def test_other_images_are_refused(x, words):
    with pytest.raises(ValueError, match=words):
        Images(x, [0, 1, 2, 3, 4], "mine", "made here")


@pytest.mark.parametrize(
    "y, words",
    [
        ([0, 1, 2], r"^y must hold one label for each of the 5 images in x, got 3$"),
        ([[0], [1], [2], [3], [4]], r"^y must have the shape \(N,\), one label for each image, got \(5, 1\)$"),
        (3, r"^y must have the shape \(N,\), one label for each image, got \(\)$"),
        ([0, 1, 2, 3, 0.5], r"^y must hold whole numbers, the labels, got torch.float32 with other values$"),
        ([0, 1, 2, 3, float("nan")], r"^y must hold whole numbers, the labels, got torch.float32 with other values$"),
        ([0j] * 5, r"^y must hold whole numbers, the labels, got torch.complex64 with other values$"),
        ([0, 1, 2, 3, -1], r"^y must hold labels from 0 on, got -1$"),
        (["cat"] * 5, r"^y must hold whole numbers, the labels, got list \("),
        (None, r"^y must hold whole numbers, the labels, got NoneType \("),
    ],
)
def test_other_labels_are_refused(y, words):
    with pytest.raises(ValueError, match=words):
        Images(numbered(), y, "mine", "made here")


def test_a_label_beyond_the_names_is_refused():
    with pytest.raises(ValueError, match=r"^y must lie in 0..1, one number for each of classes, got the label 2$"):
        made(y=[0, 1, 2, 0, 0], classes=("cat", "dog"))


@pytest.mark.parametrize("classes", [(0, 1), "cats"])
def test_classes_that_are_not_names_are_refused(classes):
    words = f"classes must be a sequence of names, one for each label, got {classes!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        Images.__init__.__wrapped__(object.__new__(Images), numbered(), [0] * 5, "mine", "made here", classes)


@pytest.mark.parametrize("argument", ["name", "source"])
def test_a_name_that_is_no_text_is_refused(argument):
    words = {"name": "mine", "source": "made here"} | {argument: None}
    with pytest.raises(ValueError, match=rf"^{argument} must be a text, got None$"):
        Images.__init__.__wrapped__(object.__new__(Images), numbered(), [0] * 5, **words)


# -- the range --------------------------------------------------------------------------------------------------------


def test_range_of_every_image_that_the_package_brings_is_right():
    load_images("digits").check_range()
    load_images("auto", "test").check_range()


@pytest.mark.parametrize("low, high", [(-1, 1), (-1.0009, 1.0009), (-0.1, 0.2), (-1, -0.5)])
def test_values_in_range_pass(low, high):
    made(numbered() * (high - low) / 2 + (high + low) / 2).check_range()


@pytest.mark.parametrize(
    "low, high, words",
    [
        (0, 255, r"^x must lie in \[-1, 1\], got values from 0 to 255: bytes 0..255 become that by x / 127.5 - 1$"),
        (-1.01, 1, r"^x must lie in \[-1, 1\], got values from -1.01 to 1$"),
        (-1, 1.01, r"^x must lie in \[-1, 1\], got values from -1 to 1.01$"),
        (-2.1, 2.6, r"^x must lie in \[-1, 1\], got values from -2.1 to 2.6$"),
        (0, 1, r"^x must lie in \[-1, 1\], got values from 0 to 1 only: images in \[0, 1\] become that by 2 \* x - 1$"),
        (0.01, 0.99, r"got values from 0.01 to 0.99 only: images in \[0, 1\] become that by 2 \* x - 1$"),
    ],
)
def test_values_of_another_range_are_named(low, high, words):
    with pytest.raises(ValueError, match=words):
        made(numbered() * (high - low) / 2 + (high + low) / 2).check_range()


def test_no_images_have_no_range():
    with pytest.raises(ValueError, match=r"^x must hold at least one image, got none$"):
        made()[:0].check_range()


# -- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "index",
    [
        slice(1, 4),
        torch.tensor([1, 2, 3]),
        torch.tensor([False, True, True, True, False]),
        [1, 2, 3],
        range(1, 4),
        np.array([3, 2, 1])[::-1],
        np.array([1, 2, 3], np.int32),
    ],
)
def test_a_batch_holds_the_images_and_labels_of_these_numbers(index):
    images = made(y=[0, 1, 0, 1, 1], classes=("cat", "dog"), load={"size": 32})
    batch = images[index]
    assert torch.equal(batch.x, images.x[1:4]) and batch.y.tolist() == [1, 0, 1]
    assert (batch.name, batch.source, batch.classes, batch.load) == ("mine", "made here", ("cat", "dog"), {"size": 32})
    assert isinstance(batch, Images) and batch.num_classes == 2


def test_a_batch_in_another_order_has_a_digest_of_its_own():
    images = made()
    whole = images.digest()
    turned = images[torch.arange(4, -1, -1)]
    assert turned.digest() != whole == images.digest() == turned[torch.arange(4, -1, -1)].digest()


@pytest.mark.parametrize(
    "index", [0, "x", None, [0.5, 1.0], torch.tensor(0), torch.tensor([[0]]), (slice(1), slice(1))]
)
def test_other_indices_are_refused(index):
    with pytest.raises(ValueError, match=r"^index must be a slice or a list or tensor of whole numbers, got "):
        Images.__getitem__.__wrapped__(made(), index)


def test_images_on_another_device_are_the_same_images():
    images = made(classes=tuple("abcde"))
    moved = images.to("meta")
    assert moved.x.device.type == moved.y.device.type == "meta" and moved.item_shape == images.item_shape
    assert images.x.device.type == "cpu" and torch.equal(images.to("cpu").x, images.x)


# -- the digest -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lay", [lambda x: x, lambda x: x.transpose(2, 3).contiguous().transpose(2, 3)])
def test_digest_is_the_sha256_of_all_bytes_of_x(lay):
    assert made(lay(numbered())).digest() == hashlib.sha256(numbered().numpy().tobytes()).hexdigest()


def test_digest_of_the_digits_is_the_one_in_older_checkpoints():
    digits = load_images("digits")
    assert digits.digest() == hashlib.sha256(digits.x.numpy().tobytes()).hexdigest()


def test_digest_is_computed_once(monkeypatch):
    images = made()
    first = images.digest()
    monkeypatch.setattr(hashlib, "sha256", None)
    assert images.digest() == first


def test_images_can_be_copied_and_pickled():
    images = made(classes=tuple("abcde"), load={"size": 4})
    for again in (copy.deepcopy(images), pickle.loads(pickle.dumps(images))):
        assert torch.equal(again.x, images.x) and again.classes == images.classes and again.digest() == images.digest()


def test_bright_pictures_in_the_range_are_taken():
    made(
        numbered() * 0.2 + 0.3
    ).check_range()  # from 0.1 to 0.5: a photograph of snow, and not one that was never brought there
