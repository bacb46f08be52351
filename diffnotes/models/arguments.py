"""The checks of arguments that the networks share. Each raises a ValueError that names the argument, what came and what was
expected. NaN in an image is handed on, as torch does."""

import contextlib
import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np
import torch
from jaxtyping import Integer
from torch import Tensor, nn

IntLike = SupportsIndex  # an integer of Python, numpy or torch
LARGEST = 1_000_000  # of any size; more is a mistake
Length = int | tuple[int, ...] | str  # of an axis: this one, one of these, or any; "..." are any number of axes before
OneEach = IntLike | Integer[Tensor, "batch"] | Integer[np.ndarray, "batch"] | Sequence[IntLike]


def as_int(value: object) -> int | None:
    """The value as a Python int if it is one whole number, else None; True and False are none."""
    if isinstance(value, bool | np.bool_) or getattr(value, "ndim", 0) != 0 or getattr(value, "dtype", 0) == torch.bool:
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def integer(name: str, value: object, expected: str, lowest: int, highest: int | None = None) -> int:
    """The value as a Python int in lowest..highest, which `expected` says in words."""
    number = as_int(value)
    if number is None:
        raise ValueError(f"{name} must be an integer, got {value!r:.80}")
    if number < lowest or (highest is not None and number > highest):
        raise ValueError(f"{name} must be {expected}, got {number}")
    if number > LARGEST:
        raise ValueError(f"{name} must be at most {LARGEST:,}, got {number}")
    return number


def one_each(name: str, values: OneEach, x: Tensor) -> Integer[Tensor, "batch"]:
    """The times t, the labels y or the levels of the images x, as an int64 tensor where x is; a single one stands for all."""
    single, noun, found = as_int(values), {"t": "time", "y": "label", "level": "level"}[name], values
    if single is not None:
        if not -(2**63) <= single < 2**63:
            raise ValueError(f"{name} must hold integers of 64 bits, got {single}")
        return torch.full((len(x),), single, device=x.device)
    if not isinstance(values, Tensor):
        with contextlib.suppress(TypeError, ValueError, RuntimeError):  # no rows of numbers
            array = np.asarray(values)
            found = torch.from_numpy(array.astype(np.int64)) if array.dtype.kind in "iu" else values
    if isinstance(found, Tensor):
        check_dense(name, found)
    if not isinstance(found, Tensor) or found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        came = f"dtype {values.dtype}" if isinstance(values, Tensor | np.ndarray) else f"{values!r:.80}"
        raise ValueError(f"{name} must hold integers, a {noun} for each image, got {came}")
    if found.shape != (len(x),):
        came = f"{len(found)} {noun}s" if found.ndim == 1 else f"shape {tuple(found.shape)}"
        raise ValueError(f"{name} must hold one {noun} for each image: got {came} for {len(x)} images")
    return found.to(x.device, torch.int64)


def times_and_labels(
    kind: str, x_t: Tensor, t: OneEach, y: OneEach | None, num_classes: int | None, input_mean: Tensor | None
) -> tuple[Integer[Tensor, "batch"], Integer[Tensor, "batch"] | None]:
    """The times and the labels of the noisy images that a network of this kind is shown, one for each image. The times must
    have a mean in input_mean, where that is given; labels: see labels_of."""
    times = one_each("t", t, x_t)
    if input_mean is not None and len(times) and not 0 <= int(times.min()) <= int(times.max()) < len(input_mean):
        raise ValueError(
            f"t must lie in 0..{len(input_mean) - 1}, for which input_mean was given, got "
            f"{int(times.min())}..{int(times.max())}"
        )
    return times, labels_of(kind, x_t, y, num_classes)


def labels_of(kind: str, x: Tensor, y: OneEach | None, num_classes: int | None) -> Integer[Tensor, "batch"] | None:
    """Which rows of its table of labels a network of this kind looks up, one for each item of x: labels 0..num_classes, the last
    one, "no label", where y is None. None for a network without labels, to which no y may be given."""
    if num_classes is None:
        if y is not None:
            raise ValueError(f"y was given, but this {kind} was made without labels (num_classes=None)")
        return None
    labels = one_each("y", num_classes if y is None else y, x)
    wrong = (labels < 0) | (labels > num_classes)
    if bool(wrong.any()):
        raise ValueError(f"y must hold labels 0..{num_classes} ({num_classes} = no label), got {int(labels[wrong][0])}")
    return labels


def finite_numbers(name: str, values: Any) -> list[float]:
    """A list of one finite number or more, from a tensor, an array or a sequence of them."""
    array = np.empty(0)
    with contextlib.suppress(TypeError, ValueError, RuntimeError):  # no row of numbers
        array = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, dtype=np.float64)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise ValueError(f"{name} must hold a finite number for each time 0..T, or be None, got {values!r:.80}")
    return array.tolist()


def check_dense(name: str, x: Tensor) -> None:
    """A tensor that holds its numbers."""
    if x.is_meta or x.layout != torch.strided:
        raise ValueError(f"{name} must be a dense tensor that holds numbers, got {x.layout} on {x.device}")


def check_tensor(name: str, x: Tensor, shape: Sequence[Length], network: nn.Module | None = None) -> None:
    """A floating-point tensor of this shape, in the dtype (except under autocast) and on the device of the network's weights."""
    expected = ", ".join(" or ".join(map(str, n)) if isinstance(n, tuple) else str(n) for n in shape)
    if not isinstance(x, Tensor) or not x.is_floating_point():
        came = f"dtype {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"{name} must be a floating-point tensor of shape ({expected}), got {came}")
    lengths = [n for n in shape if n != "..."]
    sizes = x.shape[-len(lengths) :] if shape[0] == "..." else x.shape
    if len(sizes) != len(lengths) or not all(map(_fits, sizes, lengths)):
        raise ValueError(f"{name} must have shape ({expected}), got {tuple(x.shape)}")
    weight = x if network is None else next(network.parameters())
    check_dense(name, x)
    if x.device != weight.device:
        raise ValueError(f"{name} must be where the network's weights are, on {weight.device}, got {x.device}")
    if x.dtype != weight.dtype and not torch.is_autocast_enabled(x.device.type):
        raise ValueError(f"{name} must have the dtype of the network's weights, {weight.dtype}, got {x.dtype}")


def _fits(size: int, length: Length) -> bool:
    return isinstance(length, str) or size in (length if isinstance(length, tuple) else (length,))
