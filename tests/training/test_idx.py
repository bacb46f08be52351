"""IDX files of other data sets than MNIST, which these tests write: their names, headers, labels and splits."""

import gzip
import lzma
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from diffnotes import load_images
from diffnotes.training import idx

IMAGES, LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"


def packed(array: np.ndarray, code: int = 8) -> bytes:
    """The array as an unpacked IDX file whose header says the type `code`."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape) + array.tobytes()


def pixels_of(n: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, height, width)).astype(np.uint8)


TRAIN, TEST = pixels_of(6, 5, 7), pixels_of(4, 5, 7, seed=1)
TRAIN_LABELS, TEST_LABELS = np.array([0, 2, 1, 2, 0, 1], np.uint8), np.array([3, 0, 1, 2], np.uint8)


def write(
    folder: Path, prefix: str = "", test: str = "t10k", ending: str = "", spelling: str = "-idx", **instead
) -> Path:
    """A data set of two splits in MNIST's files; `train_images` and so on replace an array."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {
        ("train", IMAGES): instead.get("train_images", TRAIN),
        ("train", LABELS): instead.get("train_labels", TRAIN_LABELS),
        (test, IMAGES): instead.get("test_images", TEST),
        (test, LABELS): instead.get("test_labels", TEST_LABELS),
    }
    pack = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}[ending]
    for (split, kind), array in arrays.items():
        if array is not None:
            (folder / f"{prefix}{split}-{kind}{ending}".replace("-idx", spelling)).write_bytes(pack(packed(array)))
    return folder


def same(images, pixels: np.ndarray, labels) -> bool:
    expected = torch.tensor(pixels / 127.5 - 1, dtype=torch.float64)[:, None]
    right = images.x.shape == expected.shape and (images.x.double() - expected).abs().max().item() < 2e-7
    return right and images.y.tolist() == list(labels)


# -- what is read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix, test", [("", "t10k"), ("", "test"), ("emnist-letters-", "test"), ("k49_", "test")])
@pytest.mark.parametrize("ending, spelling", [("", "-idx"), (".gz", "-idx"), (".xz", ".idx")])
def test_a_data_set_in_files_named_like_mnists_is_read_with_its_own_shape(tmp_path, prefix, test, ending, spelling):
    name = f"idx:{write(tmp_path, prefix, test, ending, spelling)}"
    train, held_out = load_images(name), load_images(name, "test")
    assert same(train, TRAIN, TRAIN_LABELS) and same(held_out, TEST, TEST_LABELS)
    assert train.name == held_out.name == name and train.item_shape == (1, 5, 7) and train.load is None
    assert train.source == f"IDX file {prefix}train-{IMAGES}{ending}, train split".replace("-idx", spelling)


def test_classes_are_the_numbers_that_the_labels_of_both_splits_have(tmp_path):
    name = f"idx:{write(tmp_path)}"  # a 3 is only in the test split
    assert load_images(name).classes == load_images(name, "test").classes == ("0", "1", "2", "3")
    assert load_images(name).num_classes == 4


def test_labels_from_1_on_become_labels_from_0_on_with_their_numbers_as_names(tmp_path):
    letters = np.array([1, 26, 5, 9, 2, 1], np.uint8)
    name = f"idx:{write(tmp_path, 'emnist-letters-', 'test', train_labels=letters, test_labels=letters[:4] + 0)}"
    images = load_images(name)
    assert images.y.tolist() == [0, 25, 4, 8, 1, 0] and images.num_classes == 26
    assert images.classes == tuple(str(number) for number in range(1, 27))
    assert [images.classes[label] for label in images.y] == ["1", "26", "5", "9", "2", "1"]


def test_a_split_without_the_lowest_label_counts_like_the_other(tmp_path):
    train, test = np.array([2, 3, 2, 3, 2, 3], np.uint8), np.array([1, 2, 3, 4], np.uint8)
    name = f"idx:{write(tmp_path, train_labels=train, test_labels=test)}"
    assert load_images(name).y.tolist() == [1, 2, 1, 2, 1, 2] and load_images(name, "test").y.tolist() == [0, 1, 2, 3]
    assert load_images(name).classes == load_images(name, "test").classes == ("1", "2", "3", "4")


def test_one_split_alone_will_do(tmp_path):
    write(tmp_path, test_images=None, test_labels=None)
    assert same(load_images(f"idx:{tmp_path}"), TRAIN, TRAIN_LABELS)
    with pytest.raises(
        ValueError, match=f"^there is no file of images of the test split in {re.escape(str(tmp_path))}: "
    ):
        load_images(f"idx:{tmp_path}", "test")


def test_files_in_a_folder_below_are_found(tmp_path):
    write(tmp_path / "FashionMNIST" / "raw", ending=".gz")
    assert same(load_images(f"idx:{tmp_path}"), TRAIN, TRAIN_LABELS)


def test_an_unpacked_file_beside_its_packed_one_is_one_file(tmp_path):
    write(tmp_path, ending=".gz")
    write(tmp_path)
    assert load_images(f"idx:{tmp_path}").source.startswith(f"IDX file train-{IMAGES},")


def test_home_and_variables_are_expanded(tmp_path, monkeypatch):
    write(tmp_path / "fashion")
    for variable in ("HOME", "USERPROFILE", "PICTURES"):
        monkeypatch.setenv(variable, str(tmp_path))
    assert load_images("idx:~/fashion").name == "idx:~/fashion"
    assert same(load_images("idx:$PICTURES/fashion", "test"), TEST, TEST_LABELS)


def test_size_and_channels_are_made_as_for_pictures(tmp_path):
    write(tmp_path, train_images=np.repeat(np.arange(6, dtype=np.uint8), 35).reshape(6, 5, 7) * 40)
    images = load_images(f"idx:{tmp_path}", size=16, channels=3)
    assert images.item_shape == (3, 16, 16) and images.load == {"size": 16, "channels": 3}
    assert (images.x - (torch.arange(6) * 40 / 127.5 - 1).reshape(6, 1, 1, 1)).abs().max() < 1e-6


def test_bytes_0_and_255_are_minus_1_and_1(tmp_path):
    pixels = TRAIN.copy()
    pixels[0, 0, :2] = 0, 255
    assert load_images(f"idx:{write(tmp_path, train_images=pixels)}").x[0, 0, 0, :2].tolist() == [-1.0, 1.0]


def test_mnist_itself_can_be_read_this_way():
    folder = os.environ.get("DIFFNOTES_DATA")
    if not folder:
        pytest.skip("DIFFNOTES_DATA names no folder")
    images, mnist = load_images(f"idx:{folder}", "test"), load_images("mnist", "test")
    assert images.digest() == mnist.digest() and torch.equal(images.y, mnist.y) and images.classes == mnist.classes


# -- one file -----------------------------------------------------------------------------------------------------------


def test_one_file_of_images_is_named_and_the_other_split_lies_beside_it(tmp_path):
    write(tmp_path, "emnist-letters-", "test", ".gz")
    write(tmp_path, "emnist-digits-", "test", ".gz", train_images=TEST, train_labels=TEST_LABELS)
    name = f"idx:{tmp_path / 'emnist-letters-train-images-idx3-ubyte.gz'}"
    assert same(load_images(name), TRAIN, TRAIN_LABELS) and same(load_images(name, "test"), TEST, TEST_LABELS)
    of_test = f"idx:{tmp_path / 'emnist-letters-test-images-idx3-ubyte.gz'}"
    assert same(load_images(of_test, "train"), TRAIN, TRAIN_LABELS)


def test_of_several_data_sets_in_a_folder_one_must_be_named(tmp_path):
    write(tmp_path, "emnist-letters-", "test")
    write(tmp_path, "emnist-digits-", "test")
    digits, letters = (f"emnist-{kind}-train-{IMAGES}" for kind in ("digits", "letters"))
    with pytest.raises(ValueError) as error:
        load_images(f"idx:{tmp_path}")
    assert str(error.value) == (
        f"{tmp_path} has several files of images of the train split: {digits}, {letters}; "
        f'name one of them, as in "idx:{tmp_path / digits}"'
    )


def test_the_split_that_is_not_beside_the_file_is_told(tmp_path):
    write(tmp_path, test_images=None)
    path = tmp_path / f"train-{IMAGES}"
    words = f"{path} has the train split, and there is no t10k-{IMAGES} or test-{IMAGES} beside it"
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        load_images(f"idx:{path}", "test")


def test_a_file_whose_name_says_no_split_is_split_by_number_and_adding_images_moves_none(tmp_path):
    pixels, labels = pixels_of(25, 4, 4), np.arange(25, dtype=np.uint8)
    for number in (25, 20):
        (tmp_path / "my-images.idx3").write_bytes(packed(pixels[:number]))
        (tmp_path / "my-labels.idx1").write_bytes(packed(labels[:number]))
        name = f"idx:{tmp_path / 'my-images.idx3'}"
        train, test = load_images(name), load_images(name, "test")
        assert test.y.tolist() == [9, 19]
        assert same(test, pixels[[9, 19]], [9, 19]) and len(train) == number - 2
        assert train.y.tolist() == [label for label in range(number) if label not in (9, 19)]
    assert test.source == "IDX file my-images.idx3, test split (every tenth image is kept for testing)"


def test_too_few_images_for_a_test_split_are_told(tmp_path):
    (tmp_path / "my-images.idx3").write_bytes(packed(TRAIN))
    words = "my-images.idx3 has too few images for a test split: every tenth is kept for testing"
    with pytest.raises(ValueError, match=re.escape(words)):
        load_images(f"idx:{tmp_path / 'my-images.idx3'}", "test")


def test_one_file_without_labels_has_one_class_without_a_name(tmp_path):
    write(tmp_path, train_labels=None)
    images = load_images(f"idx:{tmp_path / f'train-{IMAGES}'}")
    assert same(images, TRAIN, [0] * 6) and images.classes == () and images.num_classes == 1
    assert images.source == f"IDX file train-{IMAGES}, train split, no labels"


def test_missing_labels_in_a_folder_are_told_with_the_way_out(tmp_path):
    write(tmp_path, train_labels=None)
    path = tmp_path / f"train-{IMAGES}"
    words = f'there are no labels beside {path}: expected train-{LABELS}; "idx:{path}" reads the images without labels'
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        load_images(f"idx:{tmp_path}")


# -- damaged files --------------------------------------------------------------------------------------------------------

GOOD = packed(TRAIN)
DAMAGED = {
    "empty": (b"", "is no IDX file: it begins with the bytes of an empty file, expected 00 00, a type"),
    "web page": (b"<!DOCTYPE html>", "is no IDX file: it begins with the bytes 3c 21 44 4f, expected 00 00, a type"),
    "gzip": (gzip.compress(GOOD), "is no IDX file: it begins with the bytes 1f 8b 08 00, expected 00 00, a type"),
    "unknown type": (b"\0\0\x07\x03" + GOOD[4:], "is no IDX file: it begins with the bytes 00 00 07 03"),
    "no dimensions": (b"\0\0\x08\0", "is no IDX file: it begins with the bytes 00 00 08 00"),
    "cut in the header": (GOOD[:10], "is an IDX file cut off in its header, after 10 of 16 bytes"),
    "cut off": (GOOD[:-1], "promises 6 x 5 x 7 = 210 bytes in its header, but 209 follow"),
    "too long": (GOOD + b"\0", "promises 6 x 5 x 7 = 210 bytes in its header, but 211 follow"),
    "more images than there are": (
        GOOD[:4] + struct.pack(">I", 60_000) + GOOD[8:],
        "promises 60,000 x 5 x 7 = 2,100,000 bytes in its header, but 210 follow",
    ),
    "no images": (
        packed(TRAIN[:0]),
        "holds 0 x 5 x 7 numbers of type uint8, expected images as bytes of 3 dimensions, none of them empty",
    ),
    "labels": (
        packed(TRAIN_LABELS),
        "holds 6 numbers of type uint8, expected images as bytes of 3 dimensions, none of them empty",
    ),
    "colour": (
        packed(np.zeros((2, 3, 5, 7), np.uint8)),
        "holds 2 x 3 x 5 x 7 numbers of type uint8, expected images as bytes of 3 dimensions, none of them empty",
    ),
    "floats": (
        packed(TRAIN.astype(">f4"), 13),
        "holds 6 x 5 x 7 numbers of type float32, expected images as bytes of 3 dimensions, none of them empty",
    ),
    "signed": (
        packed(TRAIN.astype(np.int8), 9),
        "holds 6 x 5 x 7 numbers of type int8, expected images as bytes of 3 dimensions, none of them empty",
    ),
}  # fmt: skip


@pytest.mark.parametrize("content, words", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_file_of_images_is_named_and_what_is_wrong_with_it(tmp_path, content, words):
    path = write(tmp_path) / f"train-{IMAGES}"
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        load_images(f"idx:{tmp_path}")
    assert str(error.value).startswith(f"{path} {words}")
    assert same(load_images(f"idx:{tmp_path}", "test"), TEST, TEST_LABELS)  # the other split is whole


@pytest.mark.parametrize("labels", [TRAIN_LABELS[:5], np.zeros(7, np.uint8)])
def test_another_number_of_labels_than_of_images_is_told(tmp_path, labels):
    write(tmp_path, train_labels=labels)
    words = f"{tmp_path / f'train-{LABELS}'} has {len(labels)} labels for the 6 images of train-{IMAGES}"
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        load_images(f"idx:{tmp_path}")


def test_labels_of_more_dimensions_are_refused(tmp_path):
    write(tmp_path, train_labels=np.zeros((6, 8), np.uint8))
    words = "holds 6 x 8 numbers of type uint8, expected labels as bytes of 1 dimension, none of them empty"
    with pytest.raises(ValueError, match=f"{LABELS} {words}$"):
        load_images(f"idx:{tmp_path}")


@pytest.mark.parametrize("cut", [slice(0, 30), slice(0, -1), slice(3, None)])
def test_a_packed_file_that_cannot_be_unpacked_is_named(tmp_path, cut):
    path = write(tmp_path, ending=".gz") / f"train-{IMAGES}.gz"
    path.write_bytes(path.read_bytes()[cut])
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))} cannot be unpacked, cut off or no such packing"):
        load_images(f"idx:{tmp_path}")


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    path = write(tmp_path) / f"train-{IMAGES}"
    read = Path.read_bytes

    def refuse(self: Path) -> bytes:
        if self == path:
            raise PermissionError(13, "Permission denied", str(path))
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))} cannot be read: Permission denied$"):
        load_images(f"idx:{tmp_path}")


def test_a_path_that_is_not_there_and_a_folder_without_such_files_are_told(tmp_path):
    with pytest.raises(ValueError, match=f"^there is no file or folder {re.escape(str(tmp_path / 'fashion'))}$"):
        load_images(f"idx:{tmp_path / 'fashion'}")
    words = f"there is no file of images of the train split in {tmp_path}: expected a name that ends in train-{IMAGES}"
    with pytest.raises(ValueError, match=f"^{re.escape(words)}"):
        load_images(f"idx:{tmp_path}")


@pytest.mark.parametrize("code, dtype", [(8, "u1"), (9, "i1"), (11, ">i2"), (12, ">i4"), (13, ">f4"), (14, ">f8")])
def test_numbers_of_every_type_are_parsed(code, dtype):
    array = (np.arange(12).reshape(2, 3, 2) - (0 if dtype == "u1" else 5)).astype(dtype)
    assert (idx.parse(packed(array, code)) == array).all()
