"""A network and images small enough that an update takes milliseconds, and what two runs must have in common."""

import dataclasses
import os
from collections.abc import Iterator

import pytest
import torch

from diffnotes import Denoising, Images, Schedule, TrainConfig, Trainer, UNet, load_images

SMALL = dict(channels=8, multipliers=(1,), blocks=1, attention=0, patch=4)
# No setting has its default value: one that is lost on the way shows.
CONFIG = dict(
    seed=3, batch_size=8, optimizer="adamw", learning_rate=4e-3,
    warmup=7, weight_decay=0.1, gradient_clip=0.5, ema_decay=0.9, precision="float32",
)  # fmt: skip
LOSS = dict(min_snr=None, even_times=False, label_dropout=0.3)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks are faster on one thread than on two, and much faster where the cores are busy with other things."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def digits() -> Images:
    return load_images("digits")


@pytest.fixture(scope="session")
def few(digits):
    """few(n): the first n digits."""

    def few(n: int) -> Images:
        return Images(digits.x[:n], digits.y[:n], digits.name, f"the first {n} digits")

    return few


@pytest.fixture(scope="session")
def small_run() -> tuple[dict, dict, dict]:
    """The settings of the network, of the training and of the loss that make_trainer takes unless told otherwise."""
    return SMALL, CONFIG, LOSS


@pytest.fixture
def make_trainer(few):
    """make_trainer(n, labels=..., T=..., ...): a trainer of the small network on n digits; other words go to the loss, or to
    TrainConfig."""

    def make(n: int = 64, labels: bool = False, T: int = 20, network: dict | None = None, **settings) -> Trainer:
        torch.manual_seed(5)  # the first weights
        model = UNet(**(network or SMALL), num_classes=10 if labels else None)
        images = settings.pop("images", None) or few(n)
        loss = {name: settings.pop(name, usual) for name, usual in LOSS.items()}
        return Trainer(model, Denoising(Schedule.cosine(T), **loss), images, TrainConfig(**{**CONFIG, **settings}))

    return make


@pytest.fixture(scope="session")
def inputs_of():
    """inputs_of(trainer, n): what the network is shown in update n: images x0, labels y, times t and noise eps."""

    def inputs_of(trainer: Trainer, n: int):
        return trainer.objective.inputs(trainer.model, trainer.batch(n), trainer.draw(n))

    return inputs_of


@pytest.fixture(scope="session")
def run_of():
    """run_of(trainer): copies of all that must be equal in two runs: weights, average, optimiser's state and history."""

    def run_of(trainer: Trainer) -> dict[str, object]:
        run: dict[str, object] = {f"model {k}": v.clone() for k, v in trainer.model.state_dict().items()}
        run |= {f"ema {k}": v.clone() for k, v in trainer.ema.model.state_dict().items()}
        for i, values in trainer.optimizer.state_dict()["state"].items():
            run |= {f"optimizer {i} {k}": v.clone() for k, v in values.items()}
        run["history"] = [dataclasses.replace(state, seconds=0.0) for state in trainer.history]
        return run | {"updates": trainer.update, "average's updates": trainer.ema.updates}

    return run_of


@pytest.fixture(scope="session")
def same_run():
    """same_run(a, b): a and b come from run_of and are equal to the last bit; AssertionError names what is not."""

    def same_run(a: dict[str, object], b: dict[str, object]) -> None:
        assert a.keys() == b.keys()
        different = [k for k in a if not (torch.equal(a[k], b[k]) if torch.is_tensor(a[k]) else a[k] == b[k])]
        assert not different, f"different: {different[:5]} and {max(0, len(different) - 5)} more"

    return same_run


@pytest.fixture(scope="session")
def child_environment() -> dict[str, str]:
    """For other Python processes: one thread, nothing of the user's settings for diffnotes, accelerate and torchrun."""
    ours = ("DIFFNOTES_", "ACCELERATE_", "TORCHELASTIC_", "OMP_", "MASTER_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        kept.pop(name, None)
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "DIFFNOTES_OFFLINE": "1"}
