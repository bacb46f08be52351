"""Muon: an optimiser that gives every direction of a weight matrix an equal share of the step.

The gradient of a weight matrix is dominated by a few directions; plain momentum moves the weights along these and hardly
along the others. Muon replaces the momentum M = U S V^T by U V^T: the same directions, all of the same size (Jordan et al.
2024, "Muon: an optimizer for hidden layers in neural networks"; the size of the step after Liu et al. 2025, "Muon is
scalable for LLM training", section 2.2). Biases, scales and the thin last layer, which are not such matrices, are left to AdamW.

torch has a Muon of its own. This one also takes the kernels of convolutions, as matrices (channels_out, channels_in * 9),
and computes in float32, for on processors without bfloat16 that is many times faster.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

SMALLEST = 16  # a matrix with fewer rows or columns is left to AdamW


def orthogonalize(m: Float[Tensor, "row column"], iterations: int = 5) -> Float[Tensor, "row column"]:
    """Nearly U V^T for m = U S V^T: all singular values come out between 0.6 and 1.3, unless they were very small.

    Each iteration applies the odd polynomial 3.4445 s - 4.7750 s^3 + 2.0315 s^5 to every singular value s (book, eq. 6.5):
    multiplying matrices is all it takes. The coefficients are Jordan's, steep at 0."""
    wide = m if m.shape[0] <= m.shape[1] else m.T
    x = wide / wide.norm().clamp(min=1e-7)  # no singular value above 1
    for _ in range(iterations):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x if m.shape[0] <= m.shape[1] else x.T


class Muon(torch.optim.Optimizer):
    """For weight matrices W (kernels flattened) with gradient G:

        M <- mu M + (1 - mu) G,    W <- (1 - lr decay) W - 0.2 lr sqrt(max(rows, columns)) orthogonalize(mu M + (1 - mu) G)

    so that a step changes an entry by about 0.2 lr, as AdamW's does, and one lr suits both. For all else AdamW.

    What counts as such a matrix: in a group with muon=True every weight, with muon=False none; otherwise those with at least
    16 rows and columns."""

    def __init__(
        self,
        parameters: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        usual = dict(lr=lr, momentum=momentum, betas=betas, eps=eps, weight_decay=weight_decay, muon=None)
        super().__init__(parameters, usual)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step along the gradients. A closure, if given, is called first to compute them; its value is returned."""
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    rows = weight.shape[0] if weight.ndim > 1 else 1
                    columns = weight.numel() // max(1, rows)
                    by_shape = min(rows, columns) >= SMALLEST
                    step = _muon if (by_shape if group["muon"] is None else group["muon"]) else _adam
                    step(weight, weight.grad, self.state[weight], group)
        return value


def muon_groups(model: nn.Module) -> list[dict[str, Any]]:
    """The model's weights as groups for Muon: a model whose `muon_parameters()` names the matrices inside its blocks gets
    Muon for these and AdamW for all else (embeddings, norms, output layers); for any other the shape decides."""
    if not hasattr(model, "muon_parameters"):
        return [{"params": list(model.parameters())}]
    weights, names = dict(model.named_parameters()), set(model.muon_parameters())  # type: ignore[operator]
    if unknown := names - weights.keys():
        raise ValueError(f"muon_parameters() must name weights of the model, got {sorted(unknown)[0]!r}, which is none")
    chosen = [weight for name, weight in weights.items() if name in names]
    return [
        {"params": chosen, "muon": True},
        {"params": [weight for name, weight in weights.items() if name not in names], "muon": False},
    ]


def _muon(weight: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    if not state:
        state["momentum"] = torch.zeros_like(weight)
    mu = group["momentum"]
    state["momentum"].lerp_(gradient, 1 - mu)
    direction = orthogonalize(gradient.lerp(state["momentum"], mu).flatten(1))
    size = 0.2 * math.sqrt(max(direction.shape))
    weight.sub_(direction.view_as(weight), alpha=group["lr"] * size)


def _adam(weight: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    if not state:
        state["step"] = torch.zeros(())
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(weight), torch.zeros_like(weight)
    beta_1, beta_2 = group["betas"]
    state["step"] += 1
    n = state["step"].item()
    mean = state["exp_avg"].lerp_(gradient, 1 - beta_1)
    square = state["exp_avg_sq"].mul_(beta_2).addcmul_(gradient, gradient, value=1 - beta_2)
    spread = (square / (1 - beta_2**n)).sqrt().add_(group["eps"])
    weight.addcdiv_(mean, spread, value=-group["lr"] / (1 - beta_1**n))
