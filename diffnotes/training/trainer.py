"""The training loop: algorithm 1 of Ho et al. 2020, and what it takes to run it for real.

Everything random in update n - which images, which times, which noise - is a function of the seed and of n alone. So a
run that was stopped and loaded again goes on exactly as if it had not been, and several processes that each take their
share of a batch together do what one process would have done.
"""

import contextlib
import hashlib
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffnotes.models.unet import UNet
from diffnotes.process.losses import min_snr_weight, simple_loss
from diffnotes.process.schedules import Schedule
from diffnotes.training import checkpoint
from diffnotes.training.data import Images, load_images
from diffnotes.training.ema import EMA
from diffnotes.training.muon import Muon

# what a run was trained with whose checkpoint does not say, for it is older than these settings
OLDER_DEFAULTS = {"min_snr": None, "optimizer": "adamw", "even_times": False}
TIME_BINS = 10  # the times 1..T are looked at in ten parts


@dataclass(frozen=True)
class TrainConfig:
    """The settings of a run.

    seed            decides all randomness of the run
    batch_size      images per update, over all processes together
    min_snr         the loss at time t gets the weight min(SNR, min_snr), counted about x0 (losses.min_snr_weight);
                    None: no weights, the simple loss
    optimizer       "muon" (training/muon.py) or "adamw"
    learning_rate   at its highest: after `warmup` updates, from where it falls to 0 along a half cosine
    warmup          updates over which the learning rate rises from 0; 0 for none
    weight_decay    share of a weight that is taken away in an update, in units of the learning rate
    gradient_clip   the gradient is shortened to this norm when it is longer
    ema_decay       of the moving average of the weights
    even_times      the times of a batch lie evenly over 1..T; False: each is drawn by itself
    label_dropout   share of labels replaced by "no label" (only for a model with classes; guidance needs it)
    precision       "float32", "bfloat16", or "auto": bfloat16 where the processor computes in it"""

    seed: int = 0
    batch_size: int = 32
    min_snr: float | None = 5.0
    optimizer: str = "muon"
    learning_rate: float = 3e-3
    warmup: int = 100
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    ema_decay: float = 0.998
    even_times: bool = True
    label_dropout: float = 0.1
    precision: str = "auto"

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.min_snr is not None and not self.min_snr > 0:
            raise ValueError(f"min_snr must be positive, or None for no weights, got {self.min_snr}")
        if self.optimizer not in ("muon", "adamw"):
            raise ValueError(f'optimizer must be "muon" or "adamw", got {self.optimizer!r}')
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        if self.warmup < 0:
            raise ValueError(f"warmup must be at least 0, got {self.warmup}")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay must be at least 0, got {self.weight_decay}")
        if not self.gradient_clip > 0:
            raise ValueError(f"gradient_clip must be positive, got {self.gradient_clip}")
        if not 0 <= self.label_dropout <= 1:
            raise ValueError(f"label_dropout must lie in [0, 1], got {self.label_dropout}")
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise ValueError(f'precision must be "auto", "float32" or "bfloat16", got {self.precision!r}')


@dataclass(frozen=True)
class TrainState:
    """Where a run stands after an update. `loss` is the mean squared error of that update's batch, not weighted;
    `progress` runs from 0 to 1 over the budget; `seconds` counts time spent training, not what the caller spent between
    updates."""

    update: int
    images: int
    seconds: float
    loss: float
    gradient_norm: float
    learning_rate: float
    progress: float


class TrainingDiverged(FloatingPointError):
    """The loss or the gradient is no finite number any more. The trainer still holds the last good weights."""


class Trainer:
    """Trains a U-Net on images: for state in trainer.steps(seconds=180): ...

    `model` is being trained; `ema.model`, its moving average, is the one to sample from; `history` lists every TrainState,
    and `loss_by_time` for every update the mean squared error of its images in each tenth of 1..T, nan where it had none."""

    def __init__(self, model: UNet, schedule: Schedule, images: Images, config: TrainConfig | None = None) -> None:
        from accelerate import Accelerator

        self.schedule, self.images, self.config = schedule, images, config or TrainConfig()
        # The precision is ours to choose, in _update. Of several processes without GPUs, Accelerate only knows when told.
        several = int(os.environ.get("WORLD_SIZE", "1")) > 1
        self.accelerator = Accelerator(mixed_precision="no", cpu=several and not torch.cuda.is_available())
        if self.config.batch_size > len(images):
            raise ValueError(
                f"batch_size must be at most the number of images, {len(images)}, got {self.config.batch_size}"
            )
        if self.config.batch_size % self.accelerator.num_processes:
            raise ValueError(
                f"batch_size must be divisible by the {self.accelerator.num_processes} processes, got {self.config.batch_size}"
            )
        self.model = model.to(self.accelerator.device)
        optimizer = Muon if self.config.optimizer == "muon" else torch.optim.AdamW
        self.optimizer: torch.optim.Optimizer = optimizer(
            model.parameters(), self.config.learning_rate, betas=(0.9, 0.99), weight_decay=self.config.weight_decay
        )
        self.parallel = self.accelerator.prepare_model(model)  # the model itself, or its copy on every process
        self.parallel.target = model.target
        self.ema = EMA(model, self.config.ema_decay)
        self.update, self.seconds, self.interrupted = 0, 0.0, False
        self.history: list[TrainState] = []
        self.loss_by_time: list[np.ndarray] = []  # float32, (10,) each
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))
        self._turn, self._newest_loop = threading.Lock(), object()

    # -- training ---------------------------------------------------------------------------------------------------------

    def steps(self, *, updates: int | None = None, seconds: float | None = None) -> Iterator[TrainState]:
        """Train, yielding a TrainState after every update, until the run has had `updates` updates or `seconds` of
        training in all - counted from its very beginning, so that a run resumed with the same budget ends where it would
        have ended. The learning rate falls to 0 over the budget. An interrupt ends the loop after the update it met, and
        so does another loop over the same trainer that begins."""
        if (updates is None) == (seconds is None):
            raise ValueError(f"give a budget either in updates or in seconds, got updates={updates}, seconds={seconds}")
        if not (updates or seconds or 0) > 0:
            raise ValueError(f"the budget must be positive, got updates={updates}, seconds={seconds}")
        return self._steps(updates, seconds)

    def _steps(self, updates: int | None, seconds: float | None) -> Iterator[TrainState]:
        self.interrupted = False
        this_loop = self._newest_loop = object()
        while not self.interrupted and self._newest_loop is this_loop:
            spent = self._agree(self.seconds)
            progress = self.update / updates if updates is not None else spent / (seconds or math.inf)
            if progress >= 1:
                return
            started = time.perf_counter()
            with self._turn, defer_interrupts() as interrupts:
                loss, norm, rate, by_time = self._update(progress)
                self.update += 1
                self.seconds += time.perf_counter() - started
                done = self.update / updates if updates is not None else self.seconds / (seconds or math.inf)
                images = self.update * self.config.batch_size
                state = TrainState(self.update, images, self.seconds, loss, norm, rate, min(done, 1.0))
                self.history.append(state)
                self.loss_by_time.append(by_time)
            self.interrupted = self._agree(float(bool(interrupts)), mean=True) > 0  # one process met it: all end here
            yield state

    def _update(self, progress: float) -> tuple[float, float, float, np.ndarray]:
        """One line of algorithm 1 after the other. Nothing of the run has changed if it raises TrainingDiverged."""
        x0, y, t, eps = self.batch(self.update)
        rise = min(1, (self.update + 1) / max(1, self.config.warmup))
        rate = self.config.learning_rate * rise * _cosine_decay(progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

        self.parallel.train()
        with torch.autocast(x0.device.type, torch.bfloat16, enabled=self.uses_bfloat16):
            errors = simple_loss(self.parallel, self.schedule, x0, t, eps, y)
        self.optimizer.zero_grad()
        self.accelerator.backward((self._weight(t).to(errors) * errors).mean())
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip)
        mean_loss = self._agree(errors.mean().item(), mean=True)
        if not (math.isfinite(mean_loss) and math.isfinite(norm.item())):
            self.optimizer.zero_grad()
            raise TrainingDiverged(
                f"update {self.update + 1}: the loss is {mean_loss}, the gradient's norm {norm.item()}. The weights are those "
                f"after update {self.update}, the last good ones; save them, or start again with a smaller learning_rate "
                f"than {self.config.learning_rate:g}"
            )
        self.optimizer.step()
        self.ema.update(self.model)  # after the step: the average is of weights that exist
        return mean_loss, norm.item(), rate, self._by_time(t, errors)

    def _weight(self, t: Tensor) -> Tensor:
        """What the squared error at each of these times counts in the loss."""
        if self.config.min_snr is None:
            return torch.ones(len(t))
        return min_snr_weight(self.schedule, t, self.config.min_snr, self.model.target)

    def _by_time(self, t: Tensor, errors: Tensor) -> np.ndarray:
        """The mean of the errors in each tenth of 1..T, over all processes; nan for a tenth without images. (10,)"""
        pairs = torch.stack([t.to(errors), errors.detach()], dim=1)
        if self.accelerator.num_processes > 1:
            pairs = self.accelerator.gather(pairs)
        times, losses = pairs.cpu().double().numpy().T
        tenth = (times.astype(int) - 1) * TIME_BINS // self.schedule.T
        number = np.bincount(tenth, minlength=TIME_BINS)
        total = np.bincount(tenth, weights=losses, minlength=TIME_BINS)
        return np.where(number > 0, total / np.maximum(number, 1), np.nan).astype(np.float32)

    def batch(self, n: int) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        """What update n sees on this process: images x0, labels y (None without classes), times t and noise eps.

        With even_times the times lie evenly over 1..T, from a random start: each of them is uniform, as algorithm 1 wants
        it, and their mean loss jumps less than that of independent ones (the low-discrepancy sampler of Kingma et al.
        2021). Each epoch goes through the images in its own random order and leaves out a last batch that would not be full."""
        size, processes = self.config.batch_size, self.accelerator.num_processes
        epoch, k = divmod(n, len(self.images) // size)
        if self._order[0] != epoch:
            self._order = epoch, torch.randperm(len(self.images), generator=self._stream("order", epoch))
        index = self._order[1][k * size : (k + 1) * size]
        g = self._stream("noise", n)
        lot = torch.rand(1 if self.config.even_times else size, generator=g, dtype=torch.float64)
        if self.config.even_times:  # each is uniform on [0, 1) still
            lot = (lot + torch.arange(size, dtype=torch.float64) / size) % 1
        t = 1 + (lot * self.schedule.T).long()
        eps = torch.randn(size, *self.images.x.shape[1:], generator=g)
        dropped = torch.rand(size, generator=g) < self.config.label_dropout

        mine = slice(
            self.accelerator.process_index * size // processes, (self.accelerator.process_index + 1) * size // processes
        )
        device = self.accelerator.device
        y = None
        if self.model.num_classes is not None:
            y = torch.where(dropped, self.model.num_classes, self.images.y[index])[mine].to(device)
        return self.images.x[index[mine]].to(device), y, t[mine], eps[mine].to(device)

    @property
    def uses_bfloat16(self) -> bool:
        """Whether the network computes in bfloat16 (losses and weights stay in float32)."""
        if self.config.precision != "auto":
            return self.config.precision == "bfloat16"
        return _has_bfloat16(self.accelerator.device)

    def _stream(self, purpose: str, n: int) -> torch.Generator:
        """A generator for one purpose in one update (or epoch): the same numbers whenever it is asked for."""
        words = np.random.SeedSequence([self.config.seed, int.from_bytes(purpose.encode(), "big"), n]).generate_state(2)
        return torch.Generator().manual_seed(int(words[0]) << 32 | int(words[1]))

    def _agree(self, value: float, mean: bool = False) -> float:
        """One value for all processes: their mean, or that of the first."""
        if self.accelerator.num_processes == 1:
            return value
        values = self.accelerator.gather(torch.tensor([value], device=self.accelerator.device, dtype=torch.float32))
        return float(values.mean() if mean else values[0])

    # -- keeping and going on ---------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> Path:
        """Write the whole run to folder/checkpoint.safetensors (see training/checkpoint.py); returns the path."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.model.state_dict().items()}
        for i, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{k}": v for k, v in values.items()}
        tensors |= {"schedule.beta": self.schedule.beta, "schedule.alpha_bar": self.schedule.alpha_bar}
        tensors["history"] = torch.tensor([list(asdict(s).values()) for s in self.history], dtype=torch.float64)
        tensors["loss_by_time"] = torch.from_numpy(np.array(self.loss_by_time, np.float32).reshape(-1, TIME_BINS))
        metadata = {
            "model": self.model.settings,
            "config": asdict(self.config),
            "schedule": self.schedule.name,
            "images": {"name": self.images.name, "number": len(self.images), "sha256": self._images_digest()},
            "update": self.update,
            "seconds": self.seconds,
            "ema_updates": self.ema.updates,
        }
        path = Path(folder) / checkpoint.FILE_NAME
        if self.accelerator.is_main_process:
            path = checkpoint.write(folder, tensors, metadata)
        self.accelerator.wait_for_everyone()
        return path

    @classmethod
    def load(cls, folder: str | Path, images: Images | None = None) -> "Trainer":
        """The run saved in `folder`, ready to go on with the images it was trained on (fetched by name if not given)."""
        tensors, metadata = checkpoint.read(folder)
        if images is None:
            images = load_images(metadata["images"]["name"], "train")
        model, schedule = _model_and_schedule(tensors, metadata, "model.")
        trainer = cls(model, schedule, images, TrainConfig(**(OLDER_DEFAULTS | metadata["config"])))
        if trainer._images_digest() != metadata["images"]["sha256"]:
            was = metadata["images"]
            raise ValueError(f"{folder} was trained on {was['number']:,} images of {was['name']}, got {images!r}")
        trainer.ema.model.load_state_dict(_with_prefix(tensors, "ema."))
        trainer.ema.updates = metadata["ema_updates"]
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in _with_prefix(tensors, "optimizer.").items():
            i, name = key.split(".")
            state.setdefault(int(i), {})[name] = tensor
        groups = trainer.optimizer.state_dict()["param_groups"]
        trainer.optimizer.load_state_dict({"state": state, "param_groups": groups})
        trainer.update, trainer.seconds = metadata["update"], metadata["seconds"]
        for update, count, *rest in tensors["history"].tolist():
            trainer.history.append(TrainState(int(update), int(count), *rest))
        unknown = torch.full((len(trainer.history), TIME_BINS), math.nan)  # in a run older than this record
        trainer.loss_by_time = list(tensors.get("loss_by_time", unknown).numpy())
        return trainer

    def _images_digest(self) -> str:
        if not hasattr(self, "_digest"):
            self._digest = hashlib.sha256(self.images.x.numpy().tobytes()).hexdigest()
        return self._digest


def load_model(folder: str | Path) -> tuple[UNet, Schedule]:
    """The averaged network of the run saved in `folder`, in eval mode on the CPU, and its schedule: enough to sample."""
    tensors, metadata = checkpoint.read(folder)
    model, schedule = _model_and_schedule(tensors, metadata, "ema.")
    # a pixel's channels side by side in memory: a small U-Net's forward pass on the CPU is then quicker
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.eval().requires_grad_(False), schedule


def _model_and_schedule(tensors: dict[str, Tensor], metadata: dict[str, Any], prefix: str) -> tuple[UNet, Schedule]:
    model = UNet(**metadata["model"])
    model.load_state_dict(_with_prefix(tensors, prefix))
    return model, Schedule(metadata["schedule"], tensors["schedule.beta"], tensors["schedule.alpha_bar"])


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _cosine_decay(progress: float) -> float:
    """Falls from 1 at progress 0 to 0 at progress 1."""
    return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def _has_bfloat16(device: torch.device) -> bool:
    """Whether this processor has bfloat16 arithmetic of its own (where it has not, it is slower than float32)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        return any(torch.cpu.get_capabilities().get(name, False) for name in ("avx512_bf16", "amx_bf16"))
    return False


class Interrupts(list[int]):
    """A signal handler that only notes what came."""

    def __call__(self, number: int, _frame: object) -> None:
        """Called by Python with the signal's number."""
        self.append(number)


@contextlib.contextmanager
def defer_interrupts() -> Iterator[Interrupts]:
    """Hold an interrupt (Ctrl-C, the notebook's stop button) back until the block is done, and note it in the list given.
    A block within such a block notes in the outer one's list."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread receives interrupts
        yield Interrupts()
        return
    before = signal.getsignal(signal.SIGINT)
    interrupts = before if isinstance(before, Interrupts) else Interrupts()
    signal.signal(signal.SIGINT, interrupts)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)
