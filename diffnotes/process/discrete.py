"""Diffusion of tokens: categories in place of pixels, and masks in place of noise (chapter 20).

A chain over finitely many categories is a row of matrices, Q[i, j] = q(x_t = j | x_{t-1} = i) (Austin et al. 2021, D3PM). Of
these the absorbing one, which replaces a token by a mask and never brings it back, is masked diffusion. Its bound needs no
time: it counts masks. Everything is in nats, for a whole sequence, shape (B,).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from diffnotes.process.arguments import FloatLike, IntLike, check_callable, choice, integer, integers, number, shown

Tokens = Integer[Tensor, "batch position"]
Hidden = Bool[Tensor, "batch position"]
Logits = Float[Tensor, "batch position vocab"]
Matrix = Float[Tensor, "from to"]
TokenModel = Callable[..., Logits]  # model(tokens, y): logits (B, L, vocab); the token `vocab` is the mask
ORDERS = ("random", "left", "surest", "entropy", "ancestral")
MOST_POSITIONS = 12  # of which all masks are listed
MOST_CATEGORIES = 4096  # of a dense matrix


# -- chains over finitely many categories ---------------------------------------------------------------------------------


def uniform_matrix(beta: FloatLike, K: IntLike) -> Matrix:
    """(1 - beta) I + beta/K 11^T, float64 (book, eq. 20.1): with probability beta any of K categories is drawn anew.

    With 1 - alpha_bar_t in place of beta it is the matrix of all t steps together (book, eq. 20.2)."""
    beta, K = _share("beta", beta), integer("K", K, 1, MOST_CATEGORIES)
    return (1 - beta) * torch.eye(K, dtype=torch.float64) + beta / K


def absorbing_matrix(beta: FloatLike, K: IntLike) -> Matrix:
    """(1 - beta) I + beta 1 e_m^T over K categories and the mask m = K, float64 (book, eq. 20.1): with probability beta a token
    becomes the mask, which stays. With 1 - alpha_bar_t in place of beta: all t steps together (book, eq. 20.2)."""
    beta, K = _share("beta", beta), integer("K", K, 1, MOST_CATEGORIES)
    Q = (1 - beta) * torch.eye(K + 1, dtype=torch.float64)
    Q[:, K] += beta
    return Q


def forward_tokens(x0: Integer[Tensor, "*shape"], Q: Matrix, generator: torch.Generator | None = None) -> Tensor:
    """x_t ~ Cat(e_{x0} Q), every token by itself (book, eq. 20.1 and 20.2); the shape of x0."""
    Q, x0 = _stochastic("Q", Q), integers("x0", x0)
    _check_categories("x0", x0, len(Q))
    return torch.multinomial(Q[x0.flatten()], 1, generator=generator).reshape(x0.shape)


def categorical_posterior(
    Q_t: Matrix, Qbar_s: Matrix, x0: Integer[Tensor, "batch"], x_t: Integer[Tensor, "batch"]
) -> Float[Tensor, "batch K"]:
    """q(x_s | x_t, x0) for s before t, by Bayes' rule (book, eq. 20.3; Austin et al. 2021, eq. 3):

        (e_{x_t} Q_t^T) * (e_{x0} Qbar_s) / (e_{x0} Qbar_s Q_t e_{x_t}^T),    Q_t from s to t, Qbar_s from 0 to s

    ValueError where x_t cannot come from x0."""
    Q_t, Qbar_s = _stochastic("Q_t", Q_t), _stochastic("Qbar_s", Qbar_s)
    if Q_t.shape != Qbar_s.shape:
        raise ValueError(f"Q_t and Qbar_s must have the same shape, got {tuple(Q_t.shape)} and {tuple(Qbar_s.shape)}")
    x0, x_t = integers("x0", x0), integers("x_t", x_t)
    if x0.ndim != 1 or x0.shape != x_t.shape:
        raise ValueError(f"x0 and x_t must have the same shape (B,), got {tuple(x0.shape)} and {tuple(x_t.shape)}")
    _check_categories("x0", x0, len(Q_t))
    _check_categories("x_t", x_t, len(Q_t))
    joint = Q_t[:, x_t].T * Qbar_s[x0]  # q(x_t | x_s) q(x_s | x0)
    total = joint.sum(1, keepdim=True)  # q(x_t | x0)
    if bool((total == 0).any()):
        i = int((total[:, 0] == 0).nonzero()[0])
        raise ValueError(f"x_t must be possible: {int(x_t[i])} cannot come from x0 = {int(x0[i])}")
    return joint / total


def chain_likelihood(reverse: Sequence[Matrix], prior: Float[Tensor, "K"]) -> Float[Tensor, "K"]:
    """log p(x0) of all K categories, exact: prior P_T ... P_1, where reverse[t-1] = P_t has the rows p(x_{t-1} | x_t)."""
    p = prior.double()
    for P in reversed([_stochastic("reverse", P) for P in reverse]):
        p = p @ P
    return p.log()


def chain_bound(
    forward: Sequence[Matrix], reverse: Sequence[Matrix], prior: Float[Tensor, "K"]
) -> Float[Tensor, "T_plus_1 K"]:
    """The T + 1 terms of the bound on -log p(x0) for all K categories, every expectation carried out (book, eq. 20.4).

    forward[t-1] = Q_t, reverse[t-1] = P_t with the rows p(x_{t-1} | x_t). Row 0: E[-log p(x0 | x_1)]; row t-1 for t = 2..T:
    E KL(q(x_{t-1} | x_t, x0) || p(x_{t-1} | x_t)); row T: KL(q(x_T | x0) || prior). Nats; their sum is the bound."""
    if not len(forward) or len(forward) != len(reverse):
        raise ValueError(f"forward and reverse must hold T >= 1 matrices each, got {len(forward)} and {len(reverse)}")
    Q, P = [_stochastic("forward", M) for M in forward], [_stochastic("reverse", M) for M in reverse]
    K = len(Q[0])
    Qbar, terms = Q[0], [-_times_log(Q[0], P[0].T).sum(1)]
    for Q_t, P_t in zip(Q[1:], P[1:], strict=True):
        joint = Qbar[:, None, :] * Q_t.T[None]  # q(x_{t-1}, x_t | x0): axes x0, x_t, x_{t-1}
        total = joint.sum(2, keepdim=True)
        posterior = torch.where(total > 0, joint / total.clamp(min=1e-300), 0)
        terms.append((_times_log(joint, posterior) - _times_log(joint, P_t[None].expand_as(joint))).sum((1, 2)))
        Qbar = Qbar @ Q_t
    end = prior.double().expand(K, K)
    terms.append((_times_log(Qbar, Qbar) - _times_log(Qbar, end)).sum(1))
    return torch.stack(terms)


# -- masks ----------------------------------------------------------------------------------------------------------------


def random_masks(n: Integer[Tensor, "batch"], length: IntLike, generator: torch.Generator | None = None) -> Hidden:
    """For each row i a set of exactly n[i] of `length` positions, each such set equally likely: (B, length), True where in it."""
    length, n = integer("length", length, 1), integers("n", n)
    if n.ndim != 1 or (len(n) and not 0 <= int(n.min()) <= int(n.max()) <= length):
        raise ValueError(f"n must hold a number 0..{length} for each row, shape (B,), got {n.tolist()!r:.60}")
    rank = torch.rand(len(n), length, generator=generator).argsort(1).argsort(1)
    return rank.to(n.device) < n[:, None]


def mask_tokens(x: Tokens, hidden: Hidden, mask: IntLike) -> Tokens:
    """The tokens (B, L), with the token `mask` at the hidden positions (B, L)."""
    x, mask = _rows("x", x), integer("mask", mask, 0)
    if not isinstance(hidden, Tensor) or hidden.dtype != torch.bool or hidden.shape != x.shape:
        raise ValueError(f"hidden must hold True or False for each of the tokens {tuple(x.shape)}, got {shown(hidden)}")
    return torch.where(hidden, mask, x)


def masked_nats(model: TokenModel, x: Tokens, hidden: Hidden, y: Any = None) -> Float[Tensor, "batch position"]:
    """-log p(x_i | what is not hidden) at the hidden positions, 0 elsewhere; float64. The mask is the model's token `vocab`."""
    vocab = _vocab(model, x, y)
    log_p = model(mask_tokens(x, hidden, vocab), y).double().log_softmax(-1)
    nats = -log_p.gather(-1, x[..., None])[..., 0]
    return torch.where(hidden, nats, 0)


def masked_bound(model: TokenModel, x: Tokens) -> Float[Tensor, "batch"]:
    """The bound of masked diffusion on -log p(x), nats, exact: all 2^L - 1 masks are listed (book, eq. 20.8).

        sum over the sets M of hidden positions of  1/(n binom(L, n)) sum_{i in M} -log p(x_i | x without M),    n = |M|

    L is at most 12."""
    x = _rows("x", x)
    L = x.shape[1]
    if L > MOST_POSITIONS:
        raise ValueError(
            f"x must have at most {MOST_POSITIONS} positions, for all 2^L masks are listed, got {L}; for longer rows "
            "take the mean over random_masks"
        )
    sets = torch.tensor([[(k >> i) & 1 for i in range(L)] for k in range(1, 2**L)], dtype=torch.bool, device=x.device)
    n = sets.sum(1)
    weight = torch.tensor([1 / (k * math.comb(L, k)) for k in n.tolist()], dtype=torch.float64, device=x.device)
    with torch.no_grad():
        nats = [masked_nats(model, row.expand(len(sets), -1), sets).sum(1) for row in x]
    return torch.stack([weight @ row for row in nats])


# -- drawing --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Draft:
    """A state of `unmask`. call: how many calls of the model have been made; tokens (B, L) after it; revealed (B, L): the
    positions that this call filled; logits (B, L, vocab): its predictions, None before the first call."""

    call: int
    tokens: Tokens
    revealed: Hidden
    logits: Logits | None = None


def unmask(
    model: TokenModel,
    start: Tokens,
    calls: IntLike,
    order: str = "random",
    temperature: FloatLike = 1.0,
    y: Any = None,
    generator: torch.Generator | None = None,
) -> Iterator[Draft]:
    """Fill the masks in `start` (B, L) in so many calls, all positions of a call at once and independently. A generator of
    Drafts, the first one before any call. Tokens already there stay: filling a gap is the same call. The mask is the token
    `vocab`.

    After call k of S, ceil(n k / S) of a row's n masks are filled. `order` says which come first:
    "random"    every order equally likely: the generative process of the bound (book, eq. 20.10)
    "left"      from left to right
    "surest"    where the value that was drawn is most probable: LLaDA's "low-confidence remasking" (Nie et al. 2025). It looks
                at the drawn value, so even one token a call does not draw from the model's distribution
    "entropy"   where the prediction has least entropy; this does not look at the draw
    "ancestral" every mask by a coin of its own, with probability 1/(S - k + 1) in call k: the reverse chain (book, eq. 20.5)

    temperature divides the logits from which a token is drawn; 0 takes the likeliest. Which positions are filled and what is
    drawn there are separate draws, in float64: a Gumbel trick in float32 would cool rare tokens (Zheng et al. 2024)."""
    start, order = _rows("start", start), choice("order", order, ORDERS)
    temperature = number("temperature", temperature, "be a number >= 0", lambda v: 0 <= v < math.inf)
    check_callable("model", model, "model(tokens, y)")
    vocab = _vocab(model, start, y)
    hidden = start == vocab
    masks = hidden.sum(1)
    most = int(masks.max()) if len(masks) else 0
    calls = integer("calls", calls, 1)
    if most == 0:
        raise ValueError(f"start must hold masks, the token {vocab}, got none: there is nothing to fill")
    if order != "ancestral" and calls > most:
        raise ValueError(
            f"calls must be at most the number of masks, {most}, got {calls}: the others would fill nothing"
        )
    return _unmask(model, start, calls, order, temperature, y, generator, vocab)


def _unmask(
    model: TokenModel,
    x: Tokens,
    calls: int,
    order: str,
    temperature: float,
    y: Any,
    g: torch.Generator | None,
    vocab: int,
) -> Iterator[Draft]:
    masks = (x == vocab).sum(1, keepdim=True)
    yield Draft(0, x, torch.zeros_like(x, dtype=torch.bool))
    for k in range(1, calls + 1):
        with torch.no_grad():
            logits = model(x, y)
        hidden = x == vocab
        drawn = _draw(logits, temperature, g).to(x.device)
        if order == "ancestral":
            coins = torch.rand(x.shape, generator=g, dtype=torch.float64).to(x.device)
            filled = hidden & (coins * (calls - k + 1) < 1)
        else:
            number = (masks * k + calls - 1) // calls - (masks - hidden.sum(1, keepdim=True))  # ceil, less those filled
            first = _first(order, logits, drawn, g).masked_fill(~hidden, math.inf)
            filled = hidden & (first.argsort(dim=1, stable=True).argsort(dim=1) < number)
        x = torch.where(filled, drawn, x)
        yield Draft(k, x, filled, logits)


def _draw(logits: Logits, temperature: float, g: torch.Generator | None) -> Tokens:
    """A token for every position."""
    if temperature == 0:
        return logits.argmax(-1)
    p = (logits.double() / temperature).softmax(-1)
    return torch.multinomial(p.flatten(0, 1).cpu(), 1, generator=g).reshape(logits.shape[:2])


def _first(order: str, logits: Logits, drawn: Tokens, g: torch.Generator | None) -> Float[Tensor, "batch position"]:
    """A number for every position; those with the smallest are filled first."""
    B, L, _ = logits.shape
    if order == "random":
        return torch.rand(B, L, generator=g, dtype=torch.float64).to(logits.device)
    if order == "left":
        return torch.arange(L, dtype=torch.float64, device=logits.device).expand(B, L)
    p = logits.double().softmax(-1)
    if order == "entropy":
        return -torch.special.xlogy(p, p).sum(-1)
    return -p.gather(-1, drawn[..., None])[..., 0]


# -- arguments ------------------------------------------------------------------------------------------------------------


def _share(name: str, value: FloatLike) -> float:
    return number(name, value, "lie in [0, 1]", lambda v: 0 <= v <= 1)


def _stochastic(name: str, Q: Any) -> Tensor:
    """The matrix in float64; ValueError unless its rows are probabilities."""
    if not isinstance(Q, Tensor) or Q.ndim != 2 or Q.shape[0] != Q.shape[1] or not Q.is_floating_point():
        raise ValueError(f"{name} must be a square matrix of floating-point numbers, got {shown(Q)}")
    Q = Q.double()
    if not (bool((Q >= 0).all()) and bool(((Q.sum(1) - 1).abs() < 1e-6).all())):
        raise ValueError(
            f"{name} must have rows of probabilities that sum to 1, got row sums {Q.sum(1).tolist()!r:.60}"
        )
    return Q


def _check_categories(name: str, x: Tensor, K: int) -> None:
    if x.numel() and not 0 <= int(x.min()) <= int(x.max()) < K:
        raise ValueError(f"{name} must hold categories 0..{K - 1}, got {int(x.min())}..{int(x.max())}")


def _rows(name: str, x: Any) -> Tensor:
    if not isinstance(x, Tensor) or x.ndim != 2:
        raise ValueError(f"{name} must be a tensor of tokens (B, L), got {shown(x)}")
    return integers(name, x)


def _vocab(model: Any, x: Tensor, y: Any) -> int:
    """How many tokens the model predicts: what it says itself, or the last axis of an answer."""
    known = getattr(model, "vocab", None)
    if known is not None:
        return int(known)
    with torch.no_grad():
        return int(model(x[:1], y if y is None else y[:1]).shape[-1])


def _times_log(weight: Tensor, p: Tensor) -> Tensor:
    """weight log p, 0 where the weight is."""
    return torch.where(weight > 0, weight * p.log(), 0.0)
