"""A trained network that comes with the package, so that every chapter has one from the first minute."""

from pathlib import Path

from diffnotes.models.unet import UNet
from diffnotes.process.schedules import Schedule
from diffnotes.training import checkpoint
from diffnotes.training.trainer import Trainer, load_model

WEIGHTS = Path(__file__).parent / "weights"


def load_pretrained(name: str = "mnist") -> tuple[UNet, Schedule]:
    """A trained network in eval mode, and its schedule. "mnist": class-conditional U-Net, target v, cosine schedule; without
    y it draws any digit, with y (B,) the digits asked for. How it was trained: diffnotes/training/weights/mnist.md."""
    names = sorted(path.stem for path in WEIGHTS.glob("*.safetensors"))
    if name not in names:
        raise ValueError(
            f"name must be one of {', '.join(map(repr, names))}, got {name!r}; for a run of your own use load_model"
        )
    return load_model(WEIGHTS / f"{name}.safetensors")


def export(trainer: Trainer, path: Path) -> Path:
    """Write what sampling needs of a run - averaged weights in half precision, schedule, settings - to `path`."""
    tensors = {f"ema.{name}": tensor.half() for name, tensor in trainer.ema.model.state_dict().items()}
    tensors |= {"schedule.beta": trainer.schedule.beta, "schedule.alpha_bar": trainer.schedule.alpha_bar}
    metadata = {"model": trainer.model.settings, "schedule": trainer.schedule.name, "update": trainer.update}
    written = checkpoint.write(path.parent / f"{path.stem}.export", tensors, metadata)
    written.replace(path)
    written.parent.rmdir()
    return path
