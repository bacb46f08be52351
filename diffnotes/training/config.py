"""The settings of a training run, and what it says of itself after every update."""

import math
from dataclasses import dataclass, field

from diffnotes.process.arguments import choice, integer, number


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
        def positive(v: float) -> bool:
            return 0 < v < math.inf

        checked = {
            "seed": integer("seed", self.seed, 0),
            "batch_size": integer("batch_size", self.batch_size, 1),
            "optimizer": choice("optimizer", self.optimizer, ("muon", "adamw")),
            "learning_rate": number("learning_rate", self.learning_rate, "be a positive number", positive),
            "warmup": integer("warmup", self.warmup, 0),
            "weight_decay": number("weight_decay", self.weight_decay, "be a number >= 0", lambda v: 0 <= v < math.inf),
            "gradient_clip": number("gradient_clip", self.gradient_clip, "be a positive number", positive),
            "ema_decay": number("ema_decay", self.ema_decay, "lie in [0, 1)", lambda v: 0 <= v < 1),
            "precision": choice("precision", self.precision, ("auto", "float32", "bfloat16")),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)


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
