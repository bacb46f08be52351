"""The training loop: algorithm 1 of Ho et al. 2020, and what it takes to run it for real.

The loop refers to no model and no loss by name: an objective (training/objectives/) says what a batch costs. Everything random
in update n - which items, which times, which noise - is a function of the seed and of n alone. So a run that was stopped and
loaded again goes on exactly as if it had not been, and several processes that each take their share of a batch together do
what one process would have done.
"""

import hashlib
import json
import math
import os
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from diffnotes.process.schedules import Schedule
from diffnotes.training import checkpoint, loop, objectives
from diffnotes.training.config import TrainConfig, TrainState
from diffnotes.training.ema import EMA
from diffnotes.training.loop import TrainingDiverged
from diffnotes.training.muon import Muon, muon_groups
from diffnotes.training.objectives import TIME_BINS, Denoising, Draw, Losses
from diffnotes.training.restore import (
    OLDER_CONFIG,
    OLDER_OBJECTIVE,
    data_from,
    mark,
    network_from,
    objective_from,
    with_prefix,
)

SAME_DATA = (
    "sha256",
    "labels_sha256",
    "item_shape",
    "classes",
)  # what must agree for a run to go on; older files say less


class Data(Protocol):
    """What one trains on: a number of items, of which it gives those asked for. Images (training/data.py) are one kind."""

    name: str
    source: str

    def __len__(self) -> int:
        """The number of items."""

    def __getitem__(self, index: Any) -> Any:
        """The items of these numbers: a batch."""

    def to(self, device: Any) -> Any:
        """The same on that device."""

    def digest(self) -> str:
        """SHA-256 of the items: a run goes on only with those that it was begun with."""


class Trainer:
    """Trains a model on data: for state in trainer.steps(seconds=180): ...

    `objective` says what a batch costs; a Schedule in its place is short for Denoising(schedule), the training loss of a
    diffusion model. The model is any nn.Module that the objective can call; `settings`, its constructor's arguments, is what a
    checkpoint needs of a model of diffnotes to make it again.

    `model` is being trained; `ema.model`, its moving average, is the one to sample from; `history` lists every TrainState,
    and `loss_by_time` for every update the mean loss of its items in each tenth of the times, nan where it had none.

    ValueError where model, objective and data do not go together, or where the run could not be saved."""

    def __init__(self, model: nn.Module, objective: Any, data: Any, config: TrainConfig | None = None) -> None:
        from accelerate import Accelerator

        self.config = TrainConfig() if config is None else config
        self.objective = Denoising(objective) if isinstance(objective, Schedule) else objective
        self.data = data
        self.model = getattr(model, "_orig_mod", model)  # of what torch.compile made, that which it was made of
        _check_kinds(self.model, self.objective, data, self.config)
        # The precision is ours to choose, in _update. Of several processes without GPUs, Accelerate only knows when told.
        several = int(os.environ.get("WORLD_SIZE", "1")) > 1
        self.accelerator = Accelerator(mixed_precision="no", cpu=several and not torch.cuda.is_available())
        if self.config.batch_size % self.accelerator.num_processes:
            raise ValueError(
                f"batch_size must be divisible by the {self.accelerator.num_processes} processes, got {self.config.batch_size}"
            )
        self.objective.check(self.model, data)
        self._about, self._tables = self._describe()
        mark(self.model, self._about["images"], getattr(self.objective, "label_dropout", None))
        self.model.to(self.accelerator.device)
        rate, decay = self.config.learning_rate, self.config.weight_decay
        self.optimizer: torch.optim.Optimizer
        if self.config.optimizer == "muon":
            self.optimizer = Muon(muon_groups(self.model), rate, betas=(0.9, 0.99), weight_decay=decay)
        else:
            self.optimizer = torch.optim.AdamW(self.model.parameters(), rate, betas=(0.9, 0.99), weight_decay=decay)
        self.parallel = self.accelerator.prepare_model(model)  # the model itself, or its copy on every process
        for name in ("target", "num_classes"):
            if hasattr(self.model, name):
                setattr(self.parallel, name, getattr(self.model, name))
        self.ema = EMA(self.model, self.config.ema_decay)
        self.update, self.seconds, self.interrupted = 0, 0.0, False
        self.history: list[TrainState] = []
        self.loss_by_time: list[np.ndarray] = []  # float32, (10,) each
        self._batches = loop.Batches(len(data), self.config.batch_size, self.config.seed)
        self._turn, self._newest_loop = threading.Lock(), object()

    @property
    def schedule(self) -> Schedule | None:
        """The noise schedule of the objective; None if it has none."""
        return getattr(self.objective, "schedule", None)

    # -- training ---------------------------------------------------------------------------------------------------------

    def steps(self, *, updates: int | None = None, seconds: float | int | None = None) -> Iterator[TrainState]:
        """Train, yielding a TrainState after every update, until the run has had `updates` updates or `seconds` of
        training in all - counted from its very beginning, so that a run resumed with the same budget ends where it would
        have ended. The learning rate falls to 0 over the budget. An interrupt ends the loop after the update it met, and
        so does another loop over the same trainer that begins."""
        return loop.steps(self, updates, seconds)

    def _update(self, progress: float) -> tuple[dict[str, float], float, float, np.ndarray]:
        """One line of algorithm 1 after the other. No weight has changed if it raises TrainingDiverged."""
        rise = min(1, (self.update + 1) / max(1, self.config.warmup))
        rate = self.config.learning_rate * rise * _cosine_decay(progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

        self.parallel.train()
        device, draw = self.accelerator.device, self.draw(self.update)
        with (
            torch.random.fork_rng(
                [device] if device.type == "cuda" else []
            ),  # layers such as dropout draw from torch's own
            torch.autocast(device.type, torch.bfloat16, enabled=self.uses_bfloat16),
        ):
            torch.manual_seed(draw(f"layers {self.accelerator.process_index}").initial_seed())
            losses = self.objective(self.parallel, self.batch(self.update), draw)
        self.optimizer.zero_grad()
        self.accelerator.backward(losses.total.mean())
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip)
        parts = {name: self._agree(part.mean().item(), mean=True) for name, part in losses.parts.items()}
        loss = self._agree(losses.total.mean().item(), mean=True)
        if not all(math.isfinite(value) for value in (loss, norm.item(), *parts.values())):
            self.optimizer.zero_grad()
            raise TrainingDiverged(
                f"update {self.update + 1}: the loss is {loss}, the gradient's norm {norm.item()}. The weights are those "
                f"after update {self.update}, the last good ones; save them, or start again with a smaller learning_rate "
                f"than {self.config.learning_rate:g}"
            )
        self.optimizer.step()
        self.ema.update(self.model)  # after the step: the average is of weights that exist
        return parts or {"loss": loss}, norm.item(), rate, self._by_time(losses)

    def _by_time(self, losses: Losses) -> np.ndarray:
        """The mean of the objective's first part in each tenth of the times, over all processes; nan for a tenth without
        items. (10,)"""
        if losses.time_bin is None:
            return np.full(TIME_BINS, np.nan, np.float32)
        errors = next(iter(losses.parts.values()), losses.total)
        pairs = torch.stack([losses.time_bin.to(errors), errors.detach()], dim=1)
        if self.accelerator.num_processes > 1:
            pairs = self.accelerator.gather(pairs)
        tenth, values = pairs.cpu().double().numpy().T
        total = np.bincount(tenth.astype(int), weights=values, minlength=TIME_BINS)
        count = np.bincount(tenth.astype(int), minlength=TIME_BINS)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)

    def batch(self, n: int) -> Any:
        """The items of update n on this process, where the model is. Each epoch goes through the data in its own random order
        and leaves out a last batch that would not be full."""
        return self.data[self._batches(n)[self._share]].to(self.accelerator.device)

    def draw(self, n: int) -> Draw:
        """The randomness of update n."""
        return Draw(self.config.seed, n, self.config.batch_size, self._share)

    @property
    def _share(self) -> slice:
        """The items of a batch that this process takes."""
        size, rank, processes = self.config.batch_size, self.accelerator.process_index, self.accelerator.num_processes
        return slice(rank * size // processes, (rank + 1) * size // processes)

    @property
    def uses_bfloat16(self) -> bool:
        """Whether the network computes in bfloat16 (losses and weights stay in float32)."""
        if self.config.precision != "auto":
            return self.config.precision == "bfloat16"
        return _has_bfloat16(self.accelerator.device)

    def agree(self, decision: bool) -> bool:
        """The decision of the first process, for all of them: what they do together they must all begin."""
        return self._agree(float(decision)) > 0

    def _agree(self, value: float, mean: bool = False) -> float:
        """One value for all processes: their mean, or that of the first."""
        if self.accelerator.num_processes == 1:
            return value
        values = self.accelerator.gather(torch.tensor([value], device=self.accelerator.device, dtype=torch.float32))
        return float(values.mean() if mean else values[0])

    # -- keeping and going on ---------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> Path:
        """Write the whole run to folder/checkpoint.safetensors (see training/checkpoint.py); returns the path. RunInUse while
        somebody else owns the folder (training/run_folder.py). A training on another thread waits meanwhile."""
        with self._turn:
            return self._save(folder)

    def _save(self, folder: str | Path) -> Path:
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.model.state_dict().items()}
        tensors |= loop.optimizer_tensors(self.optimizer, "optimizer.")
        tensors |= self._tables
        tensors["history"], parts = loop.record(self.history)
        tensors["loss_by_time"] = torch.from_numpy(np.array(self.loss_by_time, np.float32).reshape(-1, TIME_BINS))
        metadata = self._about | {
            "images": self._about["images"] | {"sha256": self.data.digest()},
            "parts": parts,
            "update": self.update,
            "seconds": self.seconds,
            "ema_updates": self.ema.updates,
        }
        path = Path(folder) / checkpoint.FILE_NAME
        if self.accelerator.is_main_process:
            path = checkpoint.write(folder, tensors, metadata, by=self)
        self.accelerator.wait_for_everyone()
        return path

    def _describe(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What a checkpoint says of this run and will not change, and the objective's tables; ValueError now, not at the first
        save, for what cannot be kept."""
        objective, tables = objectives.to_checkpoint(self.objective)
        kind = type(self.model)
        about = {
            "model_class": f"{kind.__module__}.{kind.__qualname__}",
            "model": getattr(self.model, "settings", None),
            "target": getattr(self.model, "target", None),
            "frozen": [name for name, weight in self.model.named_parameters() if not weight.requires_grad],
            "objective": objective,
            "config": asdict(self.config),
            "images": {
                "name": self.data.name,
                "number": len(self.data),
                "item_shape": getattr(self.data, "item_shape", None),
                "classes": getattr(self.data, "classes", ()),
                "load": getattr(self.data, "load", None),
                "labels_sha256": _labels_digest(self.data),
            },
        }
        try:
            about = json.loads(json.dumps(about, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"the run could not be saved: the settings of model, objective and data must be what JSON can hold ({error})"
            ) from error
        odd = [name for name, value in self.model.state_dict().items() if not isinstance(value, Tensor)]
        if odd:
            raise ValueError(f"the run could not be saved: model has a state that is no tensor, {odd[0]!r}")
        return about, tables

    @classmethod
    def load(
        cls, folder: str | Path, data: Any = None, model: nn.Module | None = None, objective: Any = None
    ) -> "Trainer":
        """The run saved in `folder`, ready to go on with the data it was trained on (fetched by name if not given).

        `model`: a network like the one that was trained, where its class is not one of diffnotes.models; `objective`
        likewise."""
        tensors, metadata = checkpoint.read(folder)
        network = network_from(tensors, metadata, "model.", model)
        data = data_from(folder, metadata["images"]) if data is None else data
        objective = objective_from(tensors, metadata, objective)
        kept = {name: value for name, value in metadata["config"].items() if name not in OLDER_OBJECTIVE}
        for name, weight in network.named_parameters():
            weight.requires_grad_(name not in metadata.get("frozen", ()))
        trainer = cls(network, objective, data, TrainConfig(**(OLDER_CONFIG | kept)))
        was, now = metadata["images"], trainer._about["images"] | {"sha256": data.digest()}
        if different := [name for name in SAME_DATA if name in was and was[name] != now[name]]:
            raise ValueError(
                f"{folder} was trained on {was['number']:,} images of {was['name']}, got {data!r}: other {', '.join(different)}"
            )
        trainer.ema.model.load_state_dict(with_prefix(tensors, "ema."))
        trainer.ema.updates = metadata["ema_updates"]
        loop.load_optimizer(trainer.optimizer, tensors, "optimizer.")
        trainer.update, trainer.seconds = metadata["update"], metadata["seconds"]
        trainer.history = loop.recorded(tensors["history"], metadata.get("parts", []))
        unknown = torch.full((len(trainer.history), TIME_BINS), math.nan)  # in a run older than this record
        trainer.loss_by_time = list(tensors.get("loss_by_time", unknown).numpy())
        return trainer


def _check_kinds(model: Any, objective: Any, data: Any, config: Any) -> None:
    """ValueError unless each is what it should be, whatever the others are."""
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if isinstance(objective, type) or not callable(objective) or not callable(getattr(objective, "check", None)):
        raise ValueError(
            f"objective must be a Schedule, or an objective such as Denoising(schedule), got {type(objective).__name__}"
        )
    if not isinstance(config, TrainConfig):
        raise ValueError(f"config must be a TrainConfig, or None for the usual settings, got {type(config).__name__}")
    if not all(hasattr(data, name) for name in ("__len__", "__getitem__", "to", "digest", "name")):
        raise ValueError(
            f"data must be Images, or have __len__, __getitem__, to, digest and name as they do, got {type(data).__name__}"
        )
    if config.batch_size > len(data):
        raise ValueError(f"batch_size must be at most the number of images, {len(data)}, got {config.batch_size}")
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise ValueError(
            "model must have weights that can be trained, got none with requires_grad; for the network that comes with the "
            'package: load_pretrained("mnist", trainable=True)'
        )
    for weight in trained:
        if weight.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f'model must have weights in float32, got {weight.dtype}; TrainConfig(precision="bfloat16") computes in bfloat16'
            )


def _labels_digest(data: Any) -> str | None:
    y = getattr(data, "y", None)
    return hashlib.sha256(y.cpu().numpy().tobytes()).hexdigest() if isinstance(y, Tensor) else None


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
