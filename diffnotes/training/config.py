"""The settings of a training run, and what it says of itself after every update."""

from dataclasses import dataclass, field

from diffnotes.training.objectives import number, whole_number


@dataclass(frozen=True)
class TrainConfig:
    """The settings of a run that do not depend on what is trained; those of the loss belong to the objective.

    seed            decides all randomness of the run
    batch_size      items per update, over all processes together
    optimizer       "muon" (training/muon.py) or "adamw"
    learning_rate   at its highest: after `warmup` updates, from where it falls to 0 along a half cosine
    warmup          updates over which the learning rate rises from 0; 0 for none
    weight_decay    share of a weight that is taken away in an update, in units of the learning rate
    gradient_clip   the gradient is shortened to this norm when it is longer
    ema_decay       of the moving average of the weights
    precision       "float32", "bfloat16", or "auto": bfloat16 where the processor computes in it

    Numbers of numpy's are taken like Python's."""

    seed: int = 0
    batch_size: int = 32
    optimizer: str = "muon"
    learning_rate: float = 3e-3
    warmup: int = 100
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    ema_decay: float = 0.998
    precision: str = "auto"

    def __post_init__(self) -> None:
        for name, lowest in (("seed", 0), ("batch_size", 1), ("warmup", 0)):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), lowest))
        for name, expected in (
            ("learning_rate", "a positive number"),
            ("weight_decay", "a number, at least 0"),
            ("gradient_clip", "a positive number"),
            ("ema_decay", "a number in [0, 1)"),
        ):
            object.__setattr__(self, name, number(name, getattr(self, name), expected))
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay must be at least 0, got {self.weight_decay}")
        if not self.gradient_clip > 0:
            raise ValueError(f"gradient_clip must be positive, got {self.gradient_clip}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), got {self.ema_decay}")
        if self.optimizer not in ("muon", "adamw"):
            raise ValueError(f'optimizer must be "muon" or "adamw", got {self.optimizer!r}')
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise ValueError(f'precision must be "auto", "float32" or "bfloat16", got {self.precision!r}')


@dataclass(frozen=True)
class TrainState:
    """Where a run stands after an update. `loss` is the mean over that update's batch of the objective's first part (of a
    diffusion model: the mean squared error, not weighted), and `parts` are the means of all of them; `progress` runs from 0
    to 1 over the budget; `seconds` counts time spent training, not what the caller spent between updates."""

    update: int
    images: int
    seconds: float
    loss: float
    gradient_norm: float
    learning_rate: float
    progress: float
    parts: dict[str, float] = field(default_factory=dict)
