"""A denoiser with side inputs, these held fast: what is left is called as model(x_t, t, y), as samplers and losses call it."""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from diffnotes.process.arguments import Labels, check_callable
from diffnotes.process.forward import Images, Times


class Given:
    """model(x_t, t, y, **side) with the side inputs given: a picture, a vector, a level for each image of the batch.

        Given(second, picture=c, level=s)(x_t, t, y) = second(x_t, t, y, picture=c, level=s)

    It has the model's target, classes and shape of the images. The batch stays as it is: the side inputs belong to its images,
    one to one, so it must be that of the side inputs."""

    def __init__(self, model: Any, **side: Any) -> None:
        check_callable("model", model, "model(x_t, t, y, ...)")
        self.model, self.side = model, side
        self.target: str = getattr(model, "target", "")
        self.num_classes: int | None = getattr(model, "num_classes", None)
        self.item_shape: tuple[int, ...] | None = getattr(model, "item_shape", None)
        self.label_dropout: float | None = getattr(model, "label_dropout", None)

    def __call__(self, x_t: Images, t: Times, y: Labels | None = None) -> Float[Tensor, "batch *dims"]:
        """The model's prediction for x_t, given the side inputs."""
        for name, value in self.side.items():
            if isinstance(value, Tensor) and value.ndim > 0 and len(value) != len(x_t):
                raise ValueError(f"x_t must have as many images as {name}, {len(value)}, got {len(x_t)}")
        prediction: Tensor = self.model(x_t, t, y, **self.side)
        return prediction
