"""IDX files: the format of MNIST and of the data sets made after it (Fashion-MNIST, KMNIST, EMNIST, QMNIST).

Two zero bytes, a byte for the type of the numbers, a byte for how many dimensions there are, the dimensions as 32-bit
numbers, then the numbers themselves; all big-endian (yann.lecun.com/exdb/mnist). Images are (N, H, W) bytes, labels (N,).
"""

import bz2
import gzip
import lzma
import math
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

UNPACK: dict[str, Callable[[bytes], bytes]] = {
    "": lambda packed: packed,
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
}
TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
SPLITS = {"train": ("train",), "test": ("t10k", "test")}  # what the names of the files of a split begin with
IMAGES, LABELS = "-images-idx3-ubyte", "-labels-idx1-ubyte"


def parse(content: bytes) -> np.ndarray:
    """The numbers of an unpacked IDX file, in their shape and type; ValueError says what is wrong with it."""
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in TYPES or not content[3]:
        raise ValueError(
            f"is no IDX file: it begins with the bytes {content[:4].hex(' ') or 'of an empty file'}, "
            "expected 00 00, a type (08 for bytes) and the number of dimensions"
        )
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise ValueError(f"is an IDX file cut off in its header, after {len(content)} of {start} bytes")
    shape = struct.unpack(f">{content[3]}I", content[4:start])
    dtype = np.dtype(TYPES[content[2]])
    promised = math.prod(shape) * dtype.itemsize
    if len(content) - start != promised:
        raise ValueError(
            f"promises {in_words(shape)} = {promised:,} bytes in its header, but {len(content) - start:,} follow"
        )
    return np.frombuffer(content, dtype, offset=start).reshape(shape)


def unpack(packed: bytes, ending: str) -> bytes:
    """The content of a packed file whose name ends in `ending`, a key of UNPACK; ValueError if it is cut off or no such."""
    try:
        return UNPACK[ending](packed)
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
        raise ValueError(f"cannot be unpacked, cut off or no such packing ({error})") from error


def read(place: Path, split: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...], str]:
    """The images of a split (N, H, W), their labels from 0 on, the labels' names, and in words what was read.

    place is a folder with files that end like MNIST's, or one file of images. The lowest label that the files of both
    splits have becomes 0 (EMNIST's letters are 1..26), and `names` keeps the numbers of the files. A file of images whose
    name says no split is split by number, every tenth image for testing; one with no labels beside it gets the label 0."""
    path = _one_file(place, split) if os.path.isdir(place) else _file_of_split(place, split)
    pixels = _numbers(path, "images", dimensions=3)
    stem = _stem(path)
    labelled = _labels_beside(path.parent, stem)
    if labelled is None and os.path.isdir(place):
        raise ValueError(
            f"there are no labels beside {path}: expected {stem.replace(IMAGES, LABELS)}; "
            f'"idx:{path}" reads the images without labels'
        )
    labels, names = np.zeros(len(pixels), np.int64), tuple[str, ...]()
    if labelled is not None:
        labels, names = _labels(labelled, len(pixels), path)
    words = f"IDX file {path.name}, {split} split"
    if not stem.endswith(IMAGES) or _split_of(stem) is None:
        tenth = np.arange(len(pixels)) % 10 == 9
        pixels, labels = (each[tenth if split == "test" else ~tenth] for each in (pixels, labels))
        words += " (every tenth image is kept for testing)"
        if not len(pixels):
            raise ValueError(f"{path} has too few images for a {split} split: every tenth is kept for testing")
    return pixels, labels, names, words + ("" if labelled else ", no labels")


def in_words(shape: tuple[int, ...]) -> str:
    """60,000 x 28 x 28."""
    return " x ".join(f"{size:,}" for size in shape)


def _numbers(path: Path, what: str, dimensions: int) -> np.ndarray:
    """The bytes of a file of images or labels; ValueError naming the file unless they are bytes of that many dimensions."""
    try:
        numbers = parse(unpack(path.read_bytes(), _ending(path)))
        if numbers.dtype != np.uint8 or numbers.ndim != dimensions or not numbers.size:
            shape = in_words(numbers.shape)
            raise ValueError(f"holds {shape} numbers of type {numbers.dtype.name}, expected {what} as bytes of {dimensions} "
                             f"dimension{'s' * (dimensions > 1)}, none of them empty")  # fmt: skip
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error
    return numbers


def _labels(path: Path, number: int, images: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """The labels of a file counted from 0, and their names, which are the numbers in the files of both splits."""
    labels = _numbers(path, "labels", dimensions=1)
    if len(labels) != number:
        raise ValueError(f"{path} has {len(labels):,} labels for the {number:,} images of {images.name}")
    both = [labels]
    for other in _stems_of_other_split(_stem(path)):
        found = _find(path.parent, other)
        both += [_numbers(found, "labels", dimensions=1)] if found else []
    low, high = min(int(each.min()) for each in both), max(int(each.max()) for each in both)
    return labels.astype(np.int64) - low, tuple(str(label) for label in range(low, high + 1))


# -- names of files -----------------------------------------------------------------------------------------------------


def _ending(path: Path) -> str:
    return path.suffix if path.suffix in UNPACK else ""


def _stem(path: Path) -> str:
    """The name without its packing, in the spelling with a hyphen: train-images-idx3-ubyte."""
    return path.name.removesuffix(_ending(path)).replace(".idx", "-idx")


def _split_of(stem: str) -> str | None:
    """The split that the name of a file of images or labels says, if it says one."""
    start = stem.removesuffix(IMAGES).removesuffix(LABELS)
    for split, words in SPLITS.items():
        if any(start == word or start.endswith(("-" + word, "_" + word)) for word in words):
            return split
    return None


def _stems_of_other_split(stem: str) -> list[str]:
    """How the file that belongs to this one in the other split may be called."""
    split = _split_of(stem)
    for ending in (IMAGES, LABELS):
        if split and stem.endswith(ending):
            start = stem.removesuffix(ending)
            word = next(word for word in SPLITS[split] if start.endswith(word))
            (other,) = SPLITS.keys() - {split}
            return [start.removesuffix(word) + new + ending for new in SPLITS[other]]
    return []


def _find(folder: Path, stem: str) -> Path | None:
    """The file of that name in the folder, in either spelling and any packing."""
    for name in (stem, stem.replace("-idx", ".idx")):
        for ending in UNPACK:
            if (folder / (name + ending)).is_file():
                return folder / (name + ending)
    return None


def _labels_beside(folder: Path, stem: str) -> Path | None:
    """The file of labels that belongs to a file of images, if there is one."""
    name = stem.replace("images", "labels").replace("idx3", "idx1")
    return _find(folder, name) if name != stem else None


def _one_file(folder: Path, split: str) -> Path:
    """The one file of images of that split in the folder, or in the folders below; ValueError if there are none or several."""
    for pattern in ("*", "**/*"):
        files = sorted(path for path in folder.glob(pattern) if path.is_file() and _stem(path).endswith(IMAGES))
        found = {path.parent / _stem(path): path for path in reversed(files) if _split_of(_stem(path)) == split}
        if len(found) > 1:
            several = sorted(found.values())
            raise ValueError(
                f"{folder} has several files of images of the {split} split: "
                f'{", ".join(path.name for path in several)}; name one of them, as in "idx:{several[0]}"'
            )
        if found:
            return next(iter(found.values()))
    expected = " or ".join(word + IMAGES for word in SPLITS[split])
    raise ValueError(
        f"there is no file of images of the {split} split in {folder}: expected a name that ends in {expected}, "
        "packed or not"
    )


def _file_of_split(path: Path, split: str) -> Path:
    """The file itself, or the one beside it that has the other split if the name says so."""
    if not os.path.isfile(path):
        raise ValueError(f"there is no file or folder {path}")
    stem = _stem(path)
    if _split_of(stem) in (None, split):
        return path
    others = [_find(path.parent, other) for other in _stems_of_other_split(stem)]
    for found in others:
        if found:
            return found
    raise ValueError(
        f"{path} has the {_split_of(stem)} split, and there is no {' or '.join(_stems_of_other_split(stem))} beside it"
    )
