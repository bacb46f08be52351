"""Asking a network about many images at once, quickly, on the CPU.

The images of a batch do not know each other. So each core may take its share of them and go through the whole network
alone, instead of all cores sharing every single layer and waiting for each other after each of its hundreds of operations.
"""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch
from jaxtyping import Int
from torch import Tensor, nn

from diffnotes.process.forward import Images
from diffnotes.process.losses import Denoiser

SHARE = 4  # images; a core does not get up for fewer


def ask(model: Denoiser, x_t: Images, t: Int[Tensor, "batch"], y: Int[Tensor, "batch"] | None = None) -> Images:
    """model(x_t, t, y). A network on the CPU in eval mode, where no gradient is wanted, is asked about a share of the
    batch on each of torch.get_num_threads() cores: the same answer up to rounding, in less time.

    In eval mode a network is taken to answer for each image by itself. What need not do so is asked in one piece: a network
    in training mode, one with hooks, and every denoiser that is no nn.Module. So is any network under autocast."""
    cores = torch.get_num_threads()
    shares = min(cores, len(x_t) // SHARE)
    switched_on = torch.is_grad_enabled() or torch.is_autocast_enabled("cpu")
    if shares < 2 or x_t.device.type != "cpu" or switched_on or not _knows_no_batch(model):
        return model(x_t, t, y)
    inference = torch.is_inference_mode_enabled()

    def answer(x_t: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        with torch.inference_mode(inference), torch.no_grad():  # every thread has its own switches
            return model(x_t, t, y)

    labels = [None] * shares if y is None else y.tensor_split(shares)
    answers = _workers(os.getpid(), cores).map(answer, x_t.tensor_split(shares), t.tensor_split(shares), labels)
    return torch.cat(list(answers))


def _knows_no_batch(model: Denoiser) -> bool:
    """Whether the answer for an image is the same in any batch, and nobody listens to how it comes about."""
    if not isinstance(model, nn.Module) or any(module.training for module in model.modules()):
        return False
    return not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@cache
def _workers(process: int, cores: int) -> ThreadPoolExecutor:
    """A thread for each core, which computes with that core only; for this process (a forked one starts its own)."""
    started = threading.Barrier(cores)

    def start() -> None:
        torch.set_num_threads(1)  # for this thread, and for all that have not computed yet
        torch.get_num_threads()  # from here on this thread has computed, and keeps its number
        started.wait()

    workers = ThreadPoolExecutor(cores, "diffnotes")
    list(workers.map(lambda _: start(), range(cores)))
    torch.set_num_threads(cores)
    return workers
