"""The images: MNIST where it can be had, and otherwise the handwritten digits that come with scikit-learn.

load_images("mnist") looks in the folder named by DIFFNOTES_DATA, then in the user's cache, then on the public mirrors.
What is checked is the SHA-256 of the unpacked file, so it does not matter how it was packed; a file that fails is named
and never used. load_images("auto") is for notebooks: it always returns images, and `.source` says which ones.
"""

import bz2
import contextlib
import gzip
import hashlib
import lzma
import os
import tempfile
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

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
UNPACK: dict[str, Callable[[bytes], bytes]] = {
    "": lambda packed: packed,
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
}
ATTEMPTS = 3
DIGITS = tuple("0123456789")  # the names of the classes


class DataUnavailable(RuntimeError):
    """The images asked for are not on this machine and could not be fetched; the message says where it looked."""


ArrayLike = Any  # a tensor, a numpy array or a sequence of numbers


@dataclass(frozen=True, eq=False, init=False)
class Images:
    """Images with their labels, and what a run needs in order to know them and to find them again.

    x        (N, C, H, W) float32 in [-1, 1], C is 1 or 3; other floats and numpy arrays are converted
    y        (N,) labels 0..K-1 as int64; whole numbers of any type, lists and numpy arrays are converted
    name     what load_images finds them by ("mnist", a folder ...); source says in words what they are and from where
    classes  the names of the labels 0..K-1; () where they have none
    load     keyword arguments of load_images besides name and split (size=32 ...); None where there are none

    ValueError names what does not fit. Slices and tensors of numbers give a batch: images[:64], images[index]."""

    x: Float[Tensor, "N channel height width"]
    y: Int[Tensor, "N"]
    name: str
    source: str
    classes: tuple[str, ...] = ()
    load: dict[str, Any] | None = None

    def __init__(
        self,
        x: ArrayLike,
        y: ArrayLike,
        name: str,
        source: str,
        classes: Sequence[str] = (),
        load: dict[str, Any] | None = None,
    ) -> None:
        if isinstance(classes, str) or not all(isinstance(label, str) for label in classes):
            raise ValueError(f"classes must be a sequence of names, one for each label, got {classes!r}")
        x, y, classes = _images(x), _labels(y), tuple(classes)
        if len(y) != len(x):
            raise ValueError(f"y must hold one label for each of the {len(x)} images in x, got {len(y)}")
        if classes and len(y) and int(y.max()) >= len(classes):
            raise ValueError(
                f"y must lie in 0..{len(classes) - 1}, one number for each of classes, got the label {int(y.max())}"
            )
        self.__dict__.update(x=x, y=y, name=name, source=source, classes=classes, load=load)

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        return f"Images({len(self):,} images of {self.name}; {self.source})"

    def __getitem__(self, index: Tensor | slice) -> "Images":
        """The images and labels of these numbers, as a batch."""
        if not isinstance(index, Tensor | slice):
            raise ValueError(f"index must be a slice or a tensor of numbers, got {index!r}")
        return self._with(self.x[index], self.y[index])

    def to(self, device: str | torch.device) -> "Images":
        """The same images on that device."""
        return self._with(self.x.to(device), self.y.to(device))

    def _with(self, x: Tensor, y: Tensor) -> "Images":
        """A part of these images, which have been checked: a batch does not pay for that again."""
        part = object.__new__(Images)
        part.__dict__.update({field.name: getattr(self, field.name) for field in fields(self)} | {"x": x, "y": y})
        return part

    @property
    def item_shape(self) -> tuple[int, ...]:
        """(C, H, W) of one image."""
        return tuple(self.x.shape[1:])

    @property
    def num_classes(self) -> int:
        """The number of classes: of their names, or as far as the labels go where they have none."""
        return len(self.classes) or (int(self.y.max()) + 1 if len(self.y) else 0)

    def digest(self) -> str:
        """The SHA-256 of all bytes of x: a run is resumed with the images it was begun with, or not at all."""
        if "_digest" not in self.__dict__:
            self.__dict__["_digest"] = hashlib.sha256(self.x.cpu().numpy().tobytes()).hexdigest()
        return str(self.__dict__["_digest"])

    def check_range(self) -> None:
        """ValueError unless the values of x lie in [-1, 1] and use its lower half: others train, and give nonsense."""
        if not len(self):
            raise ValueError("x must hold at least one image, got none")
        low, high = float(self.x.min()), float(self.x.max())
        if low < -1.001 or high > 1.001:
            way = ": bytes 0..255 become that by x / 127.5 - 1" if low >= 0 and high <= 255 else ""
            raise ValueError(f"x must lie in [-1, 1], got values from {low:.4g} to {high:.4g}{way}")
        if low >= 0:
            raise ValueError(
                f"x must lie in [-1, 1], got values from {low:.4g} to {high:.4g} only: "
                "images in [0, 1] become that by 2 * x - 1"
            )


def _tensor(values: ArrayLike) -> Tensor:
    """A tensor, numpy array or sequence of numbers as a tensor (torch takes neither reversed nor read-only arrays)."""
    values = np.require(values, requirements=["C", "W"]) if isinstance(values, np.ndarray) else values
    return torch.as_tensor(values).detach()


def _images(x: ArrayLike) -> Tensor:
    """x as float32 of shape (N, C, H, W) with C in {1, 3}, all finite; ValueError otherwise."""
    try:
        x = _tensor(x)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"x must be a tensor of images (N, C, H, W), got {type(x).__name__} ({error})") from error
    if not x.is_floating_point():
        way = "; bytes 0..255 become that by x / 127.5 - 1" if x.dtype == torch.uint8 else ""
        raise ValueError(f"x must hold floating-point numbers in [-1, 1], got dtype {x.dtype}{way}")
    if x.ndim != 4 or x.shape[1] not in (1, 3) or 0 in x.shape[2:]:
        raise ValueError(f"x must have the shape (N, C, H, W) with C = 1 or 3, got {tuple(x.shape)}")
    x = x.float()
    if not x.isfinite().all():
        raise ValueError("x must be finite, got nan or infinite values")
    return x


def _labels(y: ArrayLike) -> Tensor:
    """y as int64 of shape (N,), none negative; ValueError otherwise."""
    try:
        labels = _tensor(y)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"y must hold whole numbers, the labels, got {type(y).__name__} ({error})") from error
    if labels.ndim != 1:
        raise ValueError(f"y must have the shape (N,), one label for each image, got {tuple(labels.shape)}")
    whole = labels if labels.is_complex() else labels.long()
    if labels.is_complex() or not torch.equal(whole.to(labels.dtype), labels):
        raise ValueError(f"y must hold whole numbers, the labels, got {labels.dtype} with other values")
    if len(whole) and int(whole.min()) < 0:
        raise ValueError(f"y must hold labels from 0 on, got {int(whole.min())}")
    return whole


def load_images(name: str = "auto", split: str = "train") -> Images:
    """Images of "mnist" (60,000 train, 10,000 test), "digits" (1,500, 297), or "auto": MNIST if to be had, else digits.

    "mnist" raises DataUnavailable when offline with nothing at hand; "auto" falls back and says so in `.source`."""
    if split not in ("train", "test"):
        raise ValueError(f'split must be "train" or "test", got {split!r}')
    if name == "mnist":
        return _mnist(split)
    if name == "digits":
        return _digits(split)
    if name == "auto":
        try:
            return _mnist(split)
        except DataUnavailable:
            digits = _digits(split)
            note = f"{digits.source}; MNIST was not to be had (load_images('mnist') says why)"
            return replace(digits, source=note)
    raise ValueError(f'name must be "mnist", "digits" or "auto", got {name!r}')


def cache_folder() -> Path:
    """Where downloads are kept: the user's cache folder for diffnotes."""
    import platformdirs

    return platformdirs.user_cache_path("diffnotes") / "mnist"


# -- MNIST ----------------------------------------------------------------------------------------------------------------


def _mnist(split: str) -> Images:
    prefix = "train" if split == "train" else "t10k"
    pixels, where = _mnist_file(f"{prefix}-images-idx3-ubyte")
    labels, _ = _mnist_file(f"{prefix}-labels-idx1-ubyte")
    grey = torch.from_numpy(np.frombuffer(pixels, np.uint8, offset=16).reshape(-1, 1, 28, 28).copy())
    x = grey.float().div_(127.5).sub_(1)
    y = torch.from_numpy(np.frombuffer(labels, np.uint8, offset=8).astype(np.int64))
    return Images(x, y, "mnist", f"MNIST (LeCun, Cortes, Burges), {split} split, {where}", DIGITS)


def _mnist_file(name: str) -> tuple[bytes, str]:
    """The unpacked file of that name, and in words where it came from."""
    problems: list[str] = []
    folder = os.environ.get("DIFFNOTES_DATA")
    if folder:
        content = _search(Path(folder), name, problems, set_aside=False)
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
        for ending, unpack in UNPACK.items():
            for path in (folder / (stem + ending), folder / "MNIST" / "raw" / (stem + ending)):
                if path.is_file():
                    found = True
                    try:
                        return _verified(name, path.read_bytes(), unpack)
                    except (OSError, ValueError) as error:
                        problems.append(f"{path}: {error}; not used")
                        # the warning points to the line that called load_images
                        warnings.warn(f"{path} is damaged and not used: {error}", stacklevel=5)
                        if set_aside:
                            with contextlib.suppress(OSError):  # a cache that cannot be written is no reason to fail
                                path.replace(path.with_name(path.name + ".damaged"))
    if not found:
        problems.append(f"{folder}: no {name}[.gz]" if folder.is_dir() else f"{folder}: there is no such folder")
    return None


def _verified(name: str, packed: bytes, unpack: Callable[[bytes], bytes]) -> bytes:
    try:
        content = unpack(packed)
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
        raise ValueError(f"cannot be unpacked, cut off or no such packing ({error})") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256[name]:
        raise ValueError(f"its unpacked SHA-256 is {digest[:12]}..., expected {SHA256[name][:12]}...")
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
                    content = _verified(name, packed, gzip.decompress)
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


def _digits(split: str) -> Images:
    from sklearn.datasets import load_digits

    raw = load_digits()
    small = torch.from_numpy(raw.images).float().unsqueeze(1) / 16  # (1797, 1, 8, 8) in [0, 1]
    large = F.pad(F.interpolate(small, size=24, mode="bicubic", antialias=False), (2, 2, 2, 2)).clamp(0, 1)
    x = (large * 255).round() / 127.5 - 1  # 256 grey values, like MNIST
    y = torch.from_numpy(raw.target).long()
    part = slice(0, 1500) if split == "train" else slice(1500, None)
    source = f"UCI handwritten digits from scikit-learn, {split} split, 8x8 pixels enlarged to 28x28"
    return Images(x[part].contiguous(), y[part], "digits", source, DIGITS)
