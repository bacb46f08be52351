"""The checks of arguments that the functions of this package share: one line there, and here what it stands for.

Each raises a ValueError that names the argument, what came and what was expected. Whole numbers and sequences may be
Python's, numpy's or torch's. NaN: a formula hands it on, as torch does; what would hide it, and every sampler, refuses it.
"""

import contextlib
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, SupportsFloat, SupportsIndex

import numpy as np
import torch
from jaxtyping import Integer
from torch import Tensor

IntLike = SupportsIndex  # an integer of Python, numpy or torch
FloatLike = SupportsFloat  # a number of Python, numpy or torch
Labels = IntLike | Integer[Tensor, "batch"] | Integer[np.ndarray, "batch"] | Sequence[IntLike]
NO_SEQUENCE = (str, bytes, set, frozenset, dict)  # what can be gone through, and is no list of numbers


def shown(value: object) -> str:
    """The value as an error shows it: short, on one line."""
    if isinstance(value, Tensor | np.ndarray) and value.ndim > 0:
        return f"{type(value).__name__} of shape {tuple(value.shape)} and dtype {value.dtype}"
    if isinstance(value, Tensor | np.ndarray | np.generic | float):
        return f"{value}"
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def as_int(value: object) -> int | None:
    """The value as a Python int if it is one whole number, else None; True and False are none."""
    if isinstance(value, bool | np.bool_) or getattr(value, "ndim", 0) != 0 or getattr(value, "dtype", 0) == torch.bool:
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def integer(name: str, value: object, lowest: int, highest: int | None = None, limit: str = "") -> int:
    """The value as a Python int in lowest..highest; `limit` names the highest one ("T = ")."""
    number = as_int(value)
    if number is None or number < lowest or (highest is not None and number > highest):
        expected = f">= {lowest}" if highest is None else f"from {lowest} to {limit}{highest}"
        raise ValueError(f"{name} must be an integer {expected}, got {shown(value)}")
    return number


def number(name: str, value: object, expected: str, holds: Callable[[float], bool]) -> float:
    """The value as a Python float for which `holds` is true; `expected` says so in words."""
    found = None
    if not isinstance(value, bool | np.bool_ | str | bytes | bytearray) and getattr(value, "ndim", 0) == 0:
        with contextlib.suppress(TypeError, OverflowError):
            found = float(value)  # type: ignore[arg-type]
    if found is None or not holds(found):
        raise ValueError(f"{name} must {expected}, got {shown(value)}")
    return found


def choice(name: str, value: object, choices: tuple[str, ...]) -> str:
    """The value, if it is one of the choices."""
    if not isinstance(value, str) or value not in choices:
        *first, last = (f'"{word}"' for word in choices)
        listed = f"{', '.join(first)} or {last}" if len(choices) == 2 else f"one of {', '.join([*first, last])}"
        raise ValueError(f"{name} must be {listed}, got {shown(value)}")
    return value


def flag(name: str, value: object) -> bool:
    """The value, if it is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, got {shown(value)}")
    return bool(value)


def check_callable(name: str, value: object, called: str) -> None:
    """ValueError unless it is a function, or something else that can be called."""
    if not callable(value) or isinstance(value, type):
        raise ValueError(f"{name} must be a function that can be called as {called}, got {shown(value)}")


def array(name: str, values: Any, kinds: str, expected: str) -> np.ndarray:
    """The numbers as a numpy array, from a sequence, a generator, an array (in any order in memory) or a tensor; `kinds`
    are the numpy kinds of numbers that will do."""
    found = values
    if isinstance(values, Tensor):
        check_dense(name, values)
        found = values.detach().cpu()
        found = (found.double() if found.is_floating_point() else found).numpy()
    elif not isinstance(values, (np.ndarray, *NO_SEQUENCE)):
        with contextlib.suppress(TypeError, ValueError, RuntimeError):  # not iterable, or no rows of numbers
            found = np.asarray(list(values))
    if not isinstance(found, np.ndarray):
        raise ValueError(f"{name} must {expected}, got {shown(values)}")
    if found.dtype.kind not in kinds and found.size > 0:
        raise ValueError(f"{name} must {expected}, got dtype {found.dtype}")
    return found


def integers(name: str, values: Any, expected: str = "hold integers") -> Tensor:
    """The whole numbers as an int64 tensor; a tensor stays where it is."""
    if not isinstance(values, Tensor):
        return torch.from_numpy(array(name, values, "iu", expected).astype(np.int64))
    check_dense(name, values)
    if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
        raise ValueError(f"{name} must {expected}, got dtype {values.dtype}")
    return values.long()


def check_dense(name: str, x: Tensor) -> None:
    """A tensor that holds its numbers."""
    if x.is_meta or x.layout != torch.strided:
        raise ValueError(f"{name} must be a dense tensor that holds numbers, got {x.layout} on {x.device}")


def check_floats(name: str, x: object, shape: str = "(B, ...)") -> None:
    """A tensor of floating-point numbers with one axis or more."""
    if not isinstance(x, Tensor):
        raise ValueError(f"{name} must be a torch.Tensor of shape {shape}, got {shown(x)}")
    check_dense(name, x)
    if not x.is_floating_point():
        hint = "; bytes 0..255 become images by x / 127.5 - 1" if x.dtype == torch.uint8 else ""
        raise ValueError(f"{name} must hold floating-point numbers, got dtype {x.dtype}{hint}")
    if x.ndim == 0:
        raise ValueError(f"{name} must be a torch.Tensor of shape {shape}, got shape ()")


def check_images(**images: Tensor) -> None:
    """Tensors of floating-point numbers, of one shape (B, ...) and in one place."""
    name_1, first = next(iter(images.items()))
    for name, x in images.items():
        check_floats(name, x)
        if x.shape != first.shape:
            raise ValueError(
                f"{name_1} and {name} must have the same shape, got {tuple(first.shape)} and {tuple(x.shape)}"
            )
        if x.device != first.device:
            raise ValueError(f"{name_1} and {name} must be on one device, got {first.device} and {x.device}")


def flatten_images(x: Tensor) -> Tensor:
    """(B, ...) to (B, d), for any number of images and axes."""
    return x.reshape(len(x), math.prod(x.shape[1:]))


def check_batch(model: object, **batch: Tensor) -> None:
    """A batch of finite images with which a whole run begins, and for this model."""
    check_images(**batch)
    ((name, x),) = batch.items()
    item = getattr(model, "item_shape", None)
    if x.ndim < 2 or (item and (x.ndim != 1 + len(item) or x.shape[1] != item[0])):
        expected = f"(B, {', '.join(map(str, item))})" if item else "(B, ...)"
        raise ValueError(f"{name} must be a batch of images {expected}, got shape {tuple(x.shape)}")
    if not bool(x.isfinite().all()):
        raise ValueError(f"{name} must hold finite numbers, found NaN or infinity")


def one_each(name: str, values: Labels, x: Tensor) -> Integer[Tensor, "batch"]:
    """The times t or the labels y of the images x, as an int64 tensor where x is; a single one stands for all."""
    single, noun = as_int(values), {"t": "time", "y": "label"}[name]
    if single is not None:
        integer(name, single, -(2**63), 2**63 - 1)
        return torch.full((len(x),), single, device=x.device)
    found = integers(name, values, f"hold integers, a {noun} for each image")
    if found.shape != (len(x),):
        came = f"{len(found)} {noun}s" if found.ndim == 1 else f"shape {tuple(found.shape)}"
        raise ValueError(f"{name} must hold one {noun} for each image: got {came} for {len(x)} images")
    return found.to(x.device)


def as_labels(y: Labels | None, x: Tensor) -> Integer[Tensor, "batch"] | None:
    """The same of labels that may be None."""
    return None if y is None else one_each("y", y, x)
