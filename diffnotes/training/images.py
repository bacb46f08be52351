"""Images with their labels, as everything in the package hands them on: float32, (N, C, H, W), in [-1, 1]."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffnotes.process.arguments import shown

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
        for argument, text in (("name", name), ("source", source)):
            if not isinstance(text, str):
                raise ValueError(f"{argument} must be a text, got {shown(text)}")
        if not isinstance(classes, list | tuple) or not all(isinstance(label, str) for label in classes):
            raise ValueError(f"classes must be a sequence of names, one for each label, got {shown(classes)}")
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

    def __getitem__(self, index: slice | ArrayLike) -> "Images":
        """The images and labels of these numbers, or where these are true, as a batch."""
        if not isinstance(index, slice):
            came = index
            try:
                index = _tensor(index)
            except (TypeError, ValueError, RuntimeError):
                index = None
            if index is None or index.ndim != 1 or index.is_floating_point() or index.is_complex():
                raise ValueError(f"index must be a slice or a list or tensor of whole numbers, got {shown(came)}")
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
        """ValueError unless the values of x lie in [-1, 1], and also if they run from 0 to 1, as those do that were never
        brought there: they would train, and give nonsense."""
        if not len(self):
            raise ValueError("x must hold at least one image, got none")
        low, high = float(self.x.min()), float(self.x.max())
        if low < -1.001 or high > 1.001:
            way = ": bytes 0..255 become that by x / 127.5 - 1" if low >= 0 and high <= 255 else ""
            raise ValueError(f"x must lie in [-1, 1], got values from {low:.4g} to {high:.4g}{way}")
        if 0 <= low < 0.02 and high > 0.5:
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
    if x.is_meta or x.layout != torch.strided:
        raise ValueError(f"x must be a dense tensor that holds numbers, got {x.layout} on {x.device}")
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
    if labels.is_meta or labels.layout != torch.strided:
        raise ValueError(f"y must be a dense tensor that holds numbers, got {labels.layout} on {labels.device}")
    if labels.ndim != 1:
        raise ValueError(f"y must have the shape (N,), one label for each image, got {tuple(labels.shape)}")
    whole = labels if labels.is_complex() else labels.long()
    if labels.is_complex() or not torch.equal(whole.to(labels.dtype), labels):
        raise ValueError(f"y must hold whole numbers, the labels, got {labels.dtype} with other values")
    if len(whole) and int(whole.min()) < 0:
        raise ValueError(f"y must hold labels from 0 on, got {int(whole.min())}")
    return whole
