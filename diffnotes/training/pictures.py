"""A folder of pictures as arrays: whatever Pillow reads, cropped to a square in the middle and resized.

Subfolders are classes, and all that lies below one belongs to it. One picture in ten is kept for testing, chosen by the
SHA-256 of its path inside the folder, so that adding pictures moves no other from one split to the other; folders train
and test decide instead where both are there. Hidden files are passed over, transparency is laid on white, sixteen bits
become eight, and a camera's note on how it was held is obeyed.
"""

import hashlib
import os
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from tqdm.auto import tqdm

GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N", "F")  # Pillow's modes without colour
NO_PICTURES = ("thumbs.db", "desktop.ini", "__macosx")  # what systems leave behind in folders, besides hidden files
TEST = ("test", "val", "valid", "validation")
TURNED = (5, 6, 7, 8)  # values of EXIF's orientation that exchange height and width


@dataclass(frozen=True)
class Picture:
    """A file that begins like a picture: `name` is its path inside the folder, `label` its class ("" for none)."""

    path: Path
    name: str
    split: str
    label: str
    grey: bool
    height: int
    width: int


@dataclass(frozen=True)
class Loaded:
    """uint8 pixels (N, H, W, C), labels (N,) and their names, `source` in words; `left_out`: a line for each such file."""

    pixels: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    source: str
    left_out: list[str]


def read(folder: Path, split: str, size: int | None, channels: int | None) -> Loaded:
    """The pictures of a split of the folder, each (size, size, channels). ValueError if there are none that can be read.

    size=None: as they are, if all have one size. channels=None: 3 if any picture of either split has colour, else 1."""
    left_out: list[str] = []
    found, rule = _find(folder, left_out)
    pictures = list(_headers(found, left_out, upright=size is None))
    classes = tuple(sorted({picture.label for picture in pictures} - {""}))
    if classes:
        strays = [picture.name for picture in pictures if not picture.label]
        left_out += [f"{name}: lies beside the folders of the classes, in none of them" for name in strays]
        pictures = [picture for picture in pictures if picture.label]
    if not pictures:
        idx = any(path.is_file() and "-ubyte" in path.name for path in folder.iterdir())
        way = f'\n"idx:{folder}" reads the IDX files in it' if idx else ""
        lines = in_lines(left_out or ["there are no files in it"])
        raise ValueError(f"no picture in {folder} can be read:\n{lines}{way}")
    if size is None:
        _one_size(pictures)
    channels = channels or _channels(pictures)
    chosen = [picture for picture in pictures if picture.split == split]
    if not chosen:
        lines = f"; left out:\n{in_lines(left_out)}" if left_out else ""
        raise ValueError(f"{folder} has no picture in its {split} split, of {len(pictures)} in all: {rule}{lines}")
    pixels, labels = [], []
    for picture in _bar(chosen, "pictures"):
        try:
            pixels.append(decode(picture.path, size, channels))
        except Exception as error:  # Pillow's readers raise what they like at a damaged file
            left_out.append(f"{picture.name}: {_reason(picture.path, error)}")
        else:
            labels.append(classes.index(picture.label) if classes else 0)
    if not pixels:
        raise ValueError(f"no picture of the {split} split in {folder} can be read:\n{in_lines(left_out)}")
    source = f"{split} split of the pictures in a folder ({rule})"
    return Loaded(np.stack(pixels), np.array(labels), classes, source, left_out)


def decode(path: Path, size: int | None, channels: int) -> np.ndarray:
    """The picture as uint8 (H, W, C): upright, on white where it is transparent, cropped and resized if size is given."""
    with Image.open(path) as file:
        if size is not None:
            file.draft(None, (4 * size, 4 * size))  # read a JPEG file at the smallest of its scales that is fine enough
        image = ImageOps.exif_transpose(file)
        if image.mode.startswith("I"):
            values = np.asarray(image).astype(np.int64)
            if values.min() < 0 or values.max() > 65535:
                raise ValueError("its numbers have 32 bits, and what is white is not said")
            image = Image.fromarray((values / 257).round().astype(np.uint8))
        if image.mode == "F":
            raise ValueError("its numbers are floating-point ones, and what is white is not said")
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("RGB" if channels == 3 else "L")
        image = image if size is None else fit(image, size)
        return np.asarray(image).reshape(image.height, image.width, channels)


def fit(image: Image.Image, size: int) -> Image.Image:
    """The largest square in the middle, resized with a bicubic filter that takes in all pixels (no aliasing)."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return square.resize((size, size), Image.Resampling.BICUBIC)


def fitted(pixels: np.ndarray, size: int) -> np.ndarray:
    """The same for all of a batch of pixels (N, H, W, C), uint8."""
    N, H, W, C = pixels.shape
    images = (Image.fromarray(each.reshape(H, W) if C == 1 else each) for each in pixels)
    return np.stack([np.asarray(fit(image, size)) for image in images]).reshape(N, size, size, C)


def in_lines(lines: list[str], most: int = 50) -> str:
    """The lines one below the other, indented; the last ones only counted where there are more than `most`."""
    more = [f"  ... and {len(lines) - most} more"] if len(lines) > most else []
    return "\n".join([f"  {line}" for line in lines[:most]] + more)


# -- what is in the folder ------------------------------------------------------------------------------------------------


def _find(folder: Path, left_out: list[str]) -> tuple[list[tuple[Path, str, str, str]], str]:
    """(path, name, split, class) of every file that is not hidden, and the rule of the split in words."""
    tops = {_name(path).lower(): path for path in _visible(folder) if path.is_dir()}
    test = next((name for name in TEST if name in tops), None)
    if "train" in tops and (test == "test" or (test and tops.keys() <= {"train", *TEST})):
        homes = {"train": tops["train"], "test": tops[str(test)]}
        names = f"{_name(homes['train'])} and {_name(homes['test'])}"
        for other in [path for path in _visible(folder) if _name(path).lower() not in ("train", *TEST)]:
            if other.is_dir() or other.suffix.lower() in Image.registered_extensions():
                left_out.append(f"{_name(other)}: lies beside the folders {names}, in neither")
        rule = f"its folders {names} are the splits"
    else:
        homes, rule = {"": folder}, "one in ten, by its path, is kept for testing"
    found = []
    for split, home in homes.items():
        for path, parts in _files(home):
            label = parts[0] if len(parts) > 1 else ""
            name = "/".join([*([_name(home)] if split else []), *parts])
            found.append((path, name, split or _split(name), label))
    return found, rule


def _split(name: str) -> str:
    digest = hashlib.sha256(name.encode()).digest()
    return "test" if int.from_bytes(digest[:8], "big") % 10 == 0 else "train"


def _files(
    folder: Path, parts: tuple[str, ...] = (), above: tuple[Path, ...] = ()
) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """All files below the folder that are not hidden, each with the parts of its path, in the order of their names. Links
    are followed, except back to a folder that one is in."""
    here = folder.resolve()
    if here in above:
        return
    for path in _visible(folder):
        if path.is_dir():
            yield from _files(path, (*parts, _name(path)), (*above, here))
        else:
            yield path, (*parts, _name(path))


def _visible(folder: Path) -> list[Path]:
    try:
        paths = list(folder.iterdir())
    except OSError as error:
        raise ValueError(f"{folder} cannot be listed: {error.strerror or error}") from error
    return sorted((p for p in paths if not p.name.startswith(".") and p.name.lower() not in NO_PICTURES), key=_name)


def _name(path: Path) -> str:
    """The last part of a path as text that can be written anywhere, accents in the one form that all systems share."""
    return unicodedata.normalize("NFC", os.fsencode(path.name).decode("utf-8", "replace"))


# -- what the pictures are ------------------------------------------------------------------------------------------------


def _headers(found: list[tuple[Path, str, str, str]], left_out: list[str], upright: bool) -> Iterator[Picture]:
    """What the files' beginnings say; a file that is no picture gets its line in left_out. upright: height and width are
    those of the picture as it is held (for which Pillow reads a whole PNG file)."""
    for path, name, split, label in _bar(found, "files"):
        try:
            if not path.is_file():
                raise FileNotFoundError("no file, or a link to one that is gone")
            with Image.open(path) as image:
                grey, (width, height) = image.mode in GREY, image.size
                if upright and image.getexif().get(ExifTags.Base.Orientation) in TURNED:
                    height, width = width, height
        except Exception as error:  # as in read
            left_out.append(f"{name}: {_reason(path, error)}")
        else:
            yield Picture(path, name, split, label, grey, height, width)


def _reason(path: Path, error: Exception) -> str:
    if path.is_file() and not path.stat().st_size:
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        return "no picture in a format that Pillow reads"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def _one_size(pictures: list[Picture]) -> None:
    sizes: dict[tuple[int, int], list[str]] = {}
    for picture in pictures:
        sizes.setdefault((picture.height, picture.width), []).append(picture.name)
    if len(sizes) > 1:
        often = sorted(sizes.items(), key=lambda item: -len(item[1]))
        listed = [f"{height} x {width}: {len(names):,}, as {names[0]}" for (height, width), names in often]
        raise ValueError(
            "size must be given, as in size=64, where the pictures have different sizes, here (height x width)\n"
            + in_lines(listed, most=5)
        )


def _channels(pictures: list[Picture]) -> int:
    """3 if a pixel of any picture has colour, else 1; grey pictures are often stored as colours."""
    for picture in pictures:
        if not picture.grey:
            try:
                pixels = decode(picture.path, None, 3)
            except Exception:  # it gets its line when it is read for good
                continue
            if (pixels != pixels[:, :, :1]).any():
                return 3
    return 1


def _bar(items: list[Any], words: str) -> Iterable[Any]:
    """The items behind a progress bar that shows itself after a second."""
    return tqdm(items, desc=words, unit="file", delay=1, leave=False)
