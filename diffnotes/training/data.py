"""The images: MNIST where it can be had, the handwritten digits that come with scikit-learn, or one's own.

load_images("mnist") looks in the folder named by DIFFNOTES_DATA, then in the user's cache, then on the public mirrors.
What is checked is the SHA-256 of the unpacked file, so it does not matter how it was packed; a file that fails is named
and never used. load_images("auto") is for notebooks: it always returns images, and `.source` says which ones.
Folders of pictures are read by training/pictures.py, other data sets in MNIST's format by training/idx.py.
"""

import contextlib
import hashlib
import os
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from diffnotes.process.arguments import IntLike, choice, integer, shown
from diffnotes.training import idx
from diffnotes.training.images import Images

__all__ = ["DataUnavailable", "Images", "cache_folder", "expanded", "load_images"]

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
SHA256 = {  # of the unpacked files
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
ATTEMPTS = 3
KINDS = '"mnist", "digits", "auto", a folder of pictures, or "idx:" and the path of IDX files'
LARGEST_SIZE = 4096  # pixels; more is a slip of the hand
DIGITS = tuple("0123456789")  # the names of the classes


class DataUnavailable(RuntimeError):
    """The images asked for are not on this machine and could not be fetched; the message says where it looked."""


class FolderMissing(DataUnavailable):
    """The folder that DIFFNOTES_DATA names is not there."""


class OtherData(ValueError):
    """A whole IDX file, but not the one of MNIST that its name promises."""


def load_images(
    name: str | os.PathLike[str] = "auto",
    split: str = "train",
    *,
    size: IntLike | None = None,
    channels: IntLike | None = None,
) -> Images:
    """The images of a split, "train" or "test": by name, from a folder of pictures, or from IDX files.

    "mnist"      60,000 and 10,000 digits; DataUnavailable when offline with nothing at hand
    "digits"     1,500 and 297 small digits that come with scikit-learn
    "auto"       MNIST if it is to be had, else the digits, and `.source` says which
    a folder     of pictures in any format that Pillow reads; its subfolders are the classes; one picture in ten is for
                 testing, or what lies in its folders train and test. A warning names what cannot be read (pictures.py)
    "idx:path"   a folder of files that are named like MNIST's (Fashion-MNIST, KMNIST, EMNIST), or one file of images;
                 labels are counted from the lowest one, and `.classes` has the numbers in the file (idx.py)

    size: every image is cropped to a square in the middle and resized to size x size; None: as it is, all of one size.
    channels: 1 for grey, 3 for colour; None: 3 for pictures with colour, else 1. ~ and variables in paths are expanded."""
    choice("split", split, ("train", "test"))
    if not isinstance(name, str | os.PathLike):
        raise ValueError(f"name must be {KINDS}, got {shown(name)}")
    size = None if size is None else integer("size", size, 1, LARGEST_SIZE)
    channels = None if channels is None else integer("channels", channels, 1)
    if channels not in (None, 1, 3):
        raise ValueError(f"channels must be 1 (grey), 3 (colour) or None, got {channels}")
    if name == "auto":
        try:
            return _mnist(split, size, channels)
        except DataUnavailable as error:
            if isinstance(error, FolderMissing):
                warnings.warn(f"{error}; the digits of scikit-learn are used instead of MNIST", stacklevel=2)
            digits = _digits(split, size, channels)
            return replace(digits, source=f"{digits.source}; MNIST was not to be had (load_images('mnist') says why)")
    if name == "mnist":
        return _mnist(split, size, channels)
    if name == "digits":
        return _digits(split, size, channels)
    if isinstance(name, str) and name.startswith("idx:") and name != "idx:":
        pixels, labels, classes, source = idx.read(expanded(name[4:]), split)
        return _images(name, source, pixels[..., None], labels, classes, size, channels)
    folder = _folder(name)
    from diffnotes.training import pictures  # only here, for it needs Pillow

    loaded = pictures.read(folder, split, size, channels)
    if loaded.left_out:
        listed = pictures.in_lines(loaded.left_out)
        warnings.warn(f"{len(loaded.left_out)} of the files in {folder} cannot be used:\n{listed}", stacklevel=2)
    pixels, labels, classes = loaded.pixels, loaded.labels, loaded.classes
    return _images(os.fspath(name), loaded.source, pixels, labels, classes, size, channels=pixels.shape[-1])


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path with ~ and variables replaced by what they stand for, as a shell does it."""
    return Path(os.path.expanduser(os.path.expandvars(path)))


def _folder(name: object) -> Path:
    """The folder that load_images is to read; ValueError with all that it can read if there is none."""
    why = ""
    if isinstance(name, str | os.PathLike) and isinstance(os.fspath(name), str) and name not in ("", "idx:"):
        path = expanded(name)
        if os.path.isdir(path):
            return path
        is_file = os.path.isfile(path)
        why = f": {path} is a file, not a folder" if is_file else f": there is no folder {os.path.abspath(path)}"
    raise ValueError(f"name must be {KINDS}, got {shown(name)}{why}")


def _images(
    name: str,
    source: str,
    pixels: np.ndarray,
    labels: np.ndarray,
    classes: tuple[str, ...],
    size: int | None,
    channels: int | None,
) -> Images:
    """Images of pixels (N, H, W, C) in bytes, of another size and in three channels where that is asked for."""
    if size is not None and pixels.shape[1:3] != (size, size):
        from diffnotes.training.pictures import fitted

        pixels = fitted(pixels, size)
    x = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()).float().div_(127.5).sub_(1)
    if channels == 3 and x.shape[1] == 1:
        x = x.repeat(1, 3, 1, 1)
    load = {key: value for key, value in (("size", size), ("channels", channels)) if value is not None}
    return Images(x, labels, name, source, classes, load or None)


def cache_folder() -> Path:
    """Where downloads are kept: the user's cache folder for diffnotes."""
    import platformdirs

    return platformdirs.user_cache_path("diffnotes") / "mnist"


# -- MNIST ----------------------------------------------------------------------------------------------------------------


def _mnist(split: str, size: int | None, channels: int | None) -> Images:
    prefix = "train" if split == "train" else "t10k"
    images, where = _mnist_file(f"{prefix}-images-idx3-ubyte")
    labels, _ = _mnist_file(f"{prefix}-labels-idx1-ubyte")
    source = f"MNIST (LeCun, Cortes, Burges), {split} split, {where}"
    return _images("mnist", source, idx.parse(images)[..., None], idx.parse(labels), DIGITS, size, channels)


def _mnist_file(name: str) -> tuple[bytes, str]:
    """The unpacked file of that name, and in words where it came from."""
    problems: list[str] = []
    named = os.environ.get("DIFFNOTES_DATA")
    if named:
        folder = expanded(named)
        if not os.path.isdir(folder):
            raise FolderMissing(
                f"DIFFNOTES_DATA is {named!r}, and there is no folder {folder} (correct the variable, or remove it)"
            )
        content = _search(folder, name, problems, set_aside=False)
        if content is not None:
            return content, "from the folder in DIFFNOTES_DATA"
    content = _search(cache_folder(), name, problems, set_aside=True)
    if content is not None:
        return content, "from the cache"
    content = _download(name, problems)
    if content is not None:
        return content, "downloaded"
    raise DataUnavailable(
        f"MNIST is not at hand: no good copy of {name} was found.\nLooked here:\n"
        + "\n".join(f"  - {problem}" for problem in problems)
        + "\nThree ways out:\n"
        "  1. connect to the internet and call load_images('mnist') again: it is downloaded once (11 MB) and kept;\n"
        f"  2. put the four MNIST files ({name}.gz and so on) into a folder and set DIFFNOTES_DATA to it;\n"
        "  3. use load_images('digits'), which needs nothing: 1,797 small digits that come with scikit-learn."
    )


def _search(folder: Path, name: str, problems: list[str], set_aside: bool) -> bytes | None:
    """The content of `name` in the folder if its checksum is right, in any packing. What is wrong goes to `problems`."""
    found = False
    for stem in (name, name.replace("-idx", ".idx")):  # both spellings are about
        for ending in idx.UNPACK:
            for path in (folder / (stem + ending), folder / "MNIST" / "raw" / (stem + ending)):
                if path.is_file():
                    found = True
                    try:
                        return _verified(name, path.read_bytes(), ending)
                    except (OSError, ValueError) as error:
                        what, other = "damaged", ""
                        if isinstance(error, OtherData) and not set_aside:
                            what, other = (
                                "damaged or another data set,",
                                f'; load_images("idx:{folder}") reads other data sets',
                            )
                        problems.append(f"{path}: {error}; not used{other}")
                        # the warning points to the line that called load_images
                        warnings.warn(f"{path} is {what} and not used: {error}{other}", stacklevel=5)
                        if set_aside:
                            with contextlib.suppress(OSError):  # a cache that cannot be written is no reason to fail
                                path.replace(path.with_name(path.name + ".damaged"))
    if not found:
        problems.append(f"{folder}: no {name}[.gz]" if folder.is_dir() else f"{folder}: there is no such folder")
    return None


def _verified(name: str, packed: bytes, ending: str) -> bytes:
    """The unpacked content, if its checksum is MNIST's; ValueError otherwise, OtherData if it is a whole IDX file."""
    content = idx.unpack(packed, ending)
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256[name]:
        wrong = f"its unpacked SHA-256 is {digest[:12]}..., expected {SHA256[name][:12]}..."
        try:
            shape = idx.in_words(idx.parse(content).shape)
        except ValueError:
            raise ValueError(wrong) from None
        raise OtherData(f"it is a whole IDX file, {shape}, but {wrong}")
    return content


def _download(name: str, problems: list[str]) -> bytes | None:
    """The content of `name` from the first mirror that serves it whole; kept in the cache. None if none does."""
    import pooch
    import requests

    if os.environ.get("DIFFNOTES_OFFLINE"):
        problems.append("the mirrors were not asked, because DIFFNOTES_OFFLINE is set")
        return None
    pooch.get_logger().setLevel("WARNING")
    downloader = pooch.HTTPDownloader(progressbar=True, timeout=(5, 30))
    for attempt in range(ATTEMPTS):
        reached = False
        for mirror in MIRRORS:
            url = f"{mirror}{name}.gz"
            with tempfile.TemporaryDirectory() as folder:
                try:
                    path = pooch.retrieve(url, known_hash=None, fname=f"{name}.gz", path=folder, downloader=downloader)
                    packed = Path(path).read_bytes()
                    content = _verified(name, packed, ".gz")
                except (requests.exceptions.RequestException, OSError, ValueError) as error:
                    offline = isinstance(error, requests.exceptions.ConnectionError | requests.exceptions.Timeout)
                    reached = reached or not offline
                    reason = "cannot be reached" if offline else str(error)
                    problems.append(f"{url}: {reason} (attempt {attempt + 1})")
                    continue
            _keep(cache_folder() / f"{name}.gz", packed, problems)
            return content
        if not reached:  # no mirror answered at all: asking again would only make the reader wait
            return None
    return None


def _keep(path: Path, packed: bytes, problems: list[str]) -> None:
    """Write a verified download to the cache, whole or not at all; a cache that cannot be written is no reason to fail."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(packed)
        os.replace(file.name, path)
    except OSError as error:
        problems.append(f"{path}: the download could not be kept ({error})")


# -- the digits in scikit-learn ---------------------------------------------------------------------------------------------


def _digits(split: str, size: int | None, channels: int | None) -> Images:
    from sklearn.datasets import load_digits

    raw = load_digits()
    small = torch.from_numpy(raw.images).float().unsqueeze(1) / 16  # (1797, 1, 8, 8) in [0, 1]
    large = F.pad(F.interpolate(small, size=24, mode="bicubic", antialias=False), (2, 2, 2, 2)).clamp(0, 1)
    pixels = (large * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()  # 256 grey values, like MNIST
    part = slice(0, 1500) if split == "train" else slice(1500, None)
    source = f"UCI handwritten digits from scikit-learn, {split} split, 8x8 pixels enlarged to 28x28"
    return _images("digits", source, pixels[part], raw.target[part], DIGITS, size, channels)
