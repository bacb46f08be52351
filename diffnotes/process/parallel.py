"""Asking a network about many images at once, quickly, on the CPU.

The images of a batch do not know each other. So each core may take its share of them and go through the whole network
alone, instead of all cores sharing every single layer and waiting for each other after each of its hundreds of operations.
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
from jaxtyping import Int
from torch import Tensor, nn

from diffnotes.process.forward import Images
from diffnotes.process.losses import Denoiser

IMAGES_PER_CORE = 4  # images; a core does not get up for fewer
Item = TypeVar("Item")
_starting = threading.Lock()


def predict_in_parallel(
    model: Denoiser, x_t: Images, t: Int[Tensor, "batch"], y: Int[Tensor, "batch"] | None = None
) -> Images:
    """model(x_t, t, y). A network on the CPU in eval mode, where no gradient is wanted, is asked about a share of the
    batch on each of torch.get_num_threads() cores: the same answer up to rounding, in less time."""
    shares = [] if torch.is_grad_enabled() else batch_slices(model, x_t, y)
    if len(shares) < 2:
        return model(x_t, t, y)
    answers = [
        _compute(_core(number), model, x_t[images], t[images], None if y is None else y[images])
        for number, images in enumerate(shares)
    ]
    return torch.cat([answer.result() for answer in answers])


def batch_slices(model: Denoiser, x_t: Images, y: Int[Tensor, "batch"] | None = None) -> list[slice]:
    """The images of a batch that each core takes; all of them in one slice if they must stay together.

    In eval mode a network is taken to answer for each image by itself. What need not do so is asked in one piece: a network
    in training mode, one with hooks, and every denoiser that is no nn.Module. So is any network under autocast."""
    cores = max(1, min(torch.get_num_threads(), len(x_t) // IMAGES_PER_CORE))
    if x_t.device.type != "cpu" or torch.is_autocast_enabled("cpu") or not _treats_images_independently(model):
        cores = 1
    if y is not None and len(y) != len(x_t):
        cores = 1  # the network has something to say about that
    return [slice(*ends) for ends in pairwise(len(x_t) * core // cores for core in range(cores + 1))]


def iterate_in_parallel(paths: Sequence[Iterator[Item]]) -> Iterator[list[Item]]:
    """What the iterators yield: the first item of each, the second of each, and so on. They must yield equally many, and
    no None.

    Each has a core to itself, where no gradients are taken, and is one item ahead of the one who asks. So a core that
    something else has held up for a moment may catch up, instead of holding up all the others."""
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
    """Whether the answer for an image is the same in any batch, and nobody listens to how it comes about."""
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
