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
from torch.optim.adamw import adamw

SMALLEST = 16  # a matrix with fewer rows or columns is left to AdamW


def orthogonalize(m: Float[Tensor, "*batch row column"], iterations: int = 5) -> Float[Tensor, "*batch row column"]:
    """Nearly U V^T for m = U S V^T: all singular values come out between 0.6 and 1.3, unless they were very small.

    Each iteration applies the odd polynomial 3.4445 s - 4.7750 s^3 + 2.0315 s^5 to every singular value s (book, eq. 6.5):
    multiplying matrices is all it takes. The coefficients are Jordan's, steep at 0. The polynomial is s times one in s^2, so
    the iterations act on the small matrix x x^T alone, and the wide x is multiplied once, at the end."""
    wide = m if m.shape[-2] <= m.shape[-1] else m.mT
    x = wide / wide.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)  # no singular value above 1
    one = torch.eye(x.shape[-2], dtype=x.dtype, device=x.device)
    gram, product = x @ x.mT, one
    for _ in range(iterations):
        factor = 3.4445 * one - 4.7750 * gram + 2.0315 * gram @ gram  # x <- factor x
        product, gram = factor @ product, factor @ gram @ factor
    x = product @ x
    return x if m.shape[-2] <= m.shape[-1] else x.mT


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
            matrices: dict[tuple[int, int], list[Tensor]] = {}  # those of one shape are orthogonalised together
            others: list[Tensor] = []
            for weight in group["params"]:
                if weight.grad is not None:
                    rows = weight.shape[0] if weight.ndim > 1 else 1
                    columns = weight.numel() // max(1, rows)
                    if min(rows, columns) >= SMALLEST if group["muon"] is None else group["muon"]:
                        matrices.setdefault((rows, columns), []).append(weight)
                    else:
                        others.append(weight)
            for alike in matrices.values():
                _muon(alike, [self.state[weight] for weight in alike], group)
            if others:
                _adamw(others, [self.state[weight] for weight in others], group)
        return value


def muon_groups(model: nn.Module) -> list[dict[str, Any]]:
    """The model's weights as groups for Muon: a model whose `muon_parameters()` names the matrices inside its blocks gets
    Muon for these and AdamW for all else (embeddings, norms, output layers); for any other, and for one whose
    `muon_parameters` is None, the shape decides."""
    inside = getattr(model, "muon_parameters", None)
    if inside is None:
        return [{"params": list(model.parameters())}]
    weights, names = dict(model.named_parameters()), set(inside())
    if unknown := names - weights.keys():
        raise ValueError(f"muon_parameters() must name weights of the model, got {sorted(unknown)[0]!r}, which is none")
    chosen = [weight for name, weight in weights.items() if name in names]
    return [
        {"params": chosen, "muon": True},
        {"params": [weight for name, weight in weights.items() if name not in names], "muon": False},
    ]


def _muon(weights: list[Tensor], states: list[dict[str, Any]], group: dict[str, Any]) -> None:
    mu, ahead = group["momentum"], []
    for weight, gradient, state in zip(weights, _gradients(weights), states, strict=True):
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        state["momentum"].lerp_(gradient, 1 - mu)
        ahead.append(gradient.lerp(state["momentum"], mu).flatten(1))
    directions = orthogonalize(torch.stack(ahead))
    size = 0.2 * math.sqrt(max(directions.shape[1:]))
    for weight, direction in zip(weights, directions, strict=True):
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.sub_(direction.view_as(weight), alpha=group["lr"] * size)


def _adamw(weights: list[Tensor], states: list[dict[str, Any]], group: dict[str, Any]) -> None:
    for weight, state in zip(weights, states, strict=True):
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(weight), torch.zeros_like(weight)
    beta1, beta2 = group["betas"]
    adamw(
        weights,
        _gradients(weights),
        [state["exp_avg"] for state in states],
        [state["exp_avg_sq"] for state in states],
        [],
        [state["step"] for state in states],
        foreach=True,
        amsgrad=False,
        beta1=beta1,
        beta2=beta2,
        lr=group["lr"],
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        maximize=False,
    )


def _gradients(weights: list[Tensor]) -> list[Tensor]:
    return [weight.grad for weight in weights if weight.grad is not None]
