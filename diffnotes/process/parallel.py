"""Data parallelism on the CPU: a network's predictions for the images of a batch, shared out among the cores.

The images of a batch are independent of each other. So each core may take its share of them through the whole network,
instead of all cores sharing every single layer and waiting for each other after each of its hundreds of operations.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from itertools import chain, pairwise
from typing import Any, TypeVar

import torch
from torch import nn

from diffnotes.process.arguments import Labels, as_labels, check_callable, check_images, one_each
from diffnotes.process.forward import Images, Times
from diffnotes.process.losses import Denoiser, check_prediction

IMAGES_PER_CORE = 4  # at least; for fewer images it does not pay
Item = TypeVar("Item")
_starting = threading.Lock()


def predict_in_parallel(model: Denoiser, x_t: Images, t: Times, y: Labels | None = None) -> Images:
    """model(x_t, t, y). Of a network on the CPU in eval mode, where no gradient is wanted, each of torch.get_num_threads()
    cores evaluates a share of the batch: the same prediction up to rounding, in less time."""
    check_callable("model", model, "model(x_t, t, y)")
    check_images(x_t=x_t)
    t, y = one_each("t", t, x_t), as_labels(y, x_t)
    shares = [] if torch.is_grad_enabled() else batch_slices(model, x_t)
    if len(shares) < 2:
        return check_prediction(model(x_t, t, y), x_t)
    outputs = [
        _compute(_core(number), model, x_t[images], t[images], None if y is None else y[images])
        for number, images in enumerate(shares)
    ]
    parts = zip(outputs, shares, strict=True)
    return torch.cat([check_prediction(output.result(), x_t[images]) for output, images in parts])


def batch_slices(model: Denoiser, x_t: Images) -> list[slice]:
    """The images of a batch that each core takes; all of them in one slice if they must stay together.

    In eval mode a network's prediction for an image is taken not to depend on the rest of the batch. Where it may, the batch
    stays whole: a network in training mode, one with hooks, every denoiser that is no nn.Module, and anything under autocast."""
    cores = max(1, min(torch.get_num_threads(), len(x_t) // IMAGES_PER_CORE))
    if x_t.device.type != "cpu" or torch.is_autocast_enabled("cpu") or not _treats_images_independently(model):
        cores = 1
    return [slice(*ends) for ends in pairwise(len(x_t) * core // cores for core in range(cores + 1))]


def iterate_in_parallel(paths: Sequence[Iterator[Item]]) -> Iterator[list[Item]]:
    """What the iterators yield: the first item of each, the second of each, and so on. They must yield equally many, and
    no None.

    Each has a core to itself, where no gradients are taken, and is one item ahead of the caller. So a core that something
    else has held up for a moment may catch up, instead of holding up all the others."""
    cores = [_core(number) for number in range(len(paths))]

    def next_of_each() -> list[Future[Item | None]]:
        return [_compute(core, next, path, None) for core, path in zip(cores, paths, strict=True)]

    coming = deque([next_of_each(), next_of_each()])
    try:
        while None not in (items := [item.result() for item in coming.popleft()]):
            yield items  # type: ignore[misc]  # none of them is None
            coming.append(next_of_each())
    finally:
        for item in chain(*coming):
            item.cancel()


def _treats_images_independently(model: Denoiser) -> bool:
    """Whether the prediction for an image is the same in any batch, and no hook watches how it is made."""
    if not isinstance(model, nn.Module) or any(module.training for module in model.modules()):
        return False
    return not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def _compute(core: ThreadPoolExecutor, function: Callable[..., Item], *arguments: Any) -> Future[Item]:
    """function(*arguments) on that core, without gradients."""
    inference = torch.is_inference_mode_enabled()

    def compute() -> Item:
        with torch.inference_mode(inference), torch.no_grad():  # every thread has its own switches
            return function(*arguments)

    return core.submit(compute)


def _core(number: int) -> ThreadPoolExecutor:
    """The thread of this process (a forked one has its own) that computes with one core only, the first, second ..."""
    with _starting:
        return _started(os.getpid(), number)


@cache
def _started(process: int, number: int) -> ThreadPoolExecutor:
    cores = torch.get_num_threads()

    def start() -> None:
        torch.set_num_threads(1)  # for this thread, and for all that have not computed yet
        torch.get_num_threads()  # from here on this thread has computed, and keeps its number

    core = ThreadPoolExecutor(1, f"diffnotes-{number}")
    core.submit(start).result()
    torch.set_num_threads(cores)
    return core
