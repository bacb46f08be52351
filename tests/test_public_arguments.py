"""What the public functions make of arguments of every kind: they work, or say by name which argument is wrong.

A row of ROWS is one function: strategies of right arguments, and the promised shapes of what it returns. Of each call, none to
three arguments are exchanged for something else: other types, shapes and dtypes, NaN, infinity, huge and negative numbers,
strings, None, numbers and arrays of numpy, axes too many or too few. Then

- right arguments are never refused;
- nothing is raised but ValueError or TypeError, and its text names one of the function's arguments;
- what is returned has the promised shapes; from finite numbers of ordinary size it is finite; NaN does not disappear.

DIFFNOTES_FUZZ=1000 draws as many cases for each function, other ones in every run, and prints how they ended.
"""

import os
import re
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import diffnotes
from diffnotes.models import classifier, coupling, dit, unet, vae
from diffnotes.models.autoencoder import Autoencoder, AutoencoderTerms
from diffnotes.models.autoregressive import MaskedConv2d, PixelCNN
from diffnotes.models.codes import VQVAE, perplexity
from diffnotes.models.conditioned import ConditionedUNet
from diffnotes.models.gan import Discriminator, Generator
from diffnotes.models.masked import MaskedAutoencoder
from diffnotes.models.mlp import MLPDenoiser
from diffnotes.process import (
    adapters,
    cascade,
    choose,
    consistency,
    discrete,
    elbo,
    exact,
    flow,
    forward,
    gaussian,
    gp,
    guidance,
    inverse,
    langevin,
    latent,
    losses,
    operators,
    parallel,
    parameterize,
    probability_flow,
    samplers,
    sde,
    solvers,
)
from diffnotes.process.schedules import Schedule
from diffnotes.training import adversarial, adversarial_losses, ema, grid, metrics

FUZZ = int(os.environ.get("DIFFNOTES_FUZZ", "0"))
ENDINGS: Counter[tuple[str, str]] = Counter()
Given = dict[str, Any]

# -- right arguments --------------------------------------------------------------------------------------------------

S = Schedule.cosine(12)
ZERO = S.rescale_zero_terminal_snr()


def noise(batch: int, *shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class Network(nn.Module):
    """A denoiser with a weight, for images of any shape."""

    def __init__(self, target: str = "v") -> None:
        super().__init__()
        self.target, self.num_classes, self.weight = target, 10, nn.Parameter(torch.tensor(0.3))

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        labels = 0 if y is None else y.reshape(-1, *[1] * (x_t.ndim - 1)).to(x_t)
        return self.weight.to(x_t) * x_t + 0.1 * labels


class Foreign(nn.Module):
    """Called as diffusers' networks are."""

    def forward(self, sample: Tensor, timestep: Tensor) -> Any:
        return SimpleNamespace(sample=0.5 * sample)


def logits_of_y(x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """A score for each image and its label."""
    return logits(x_t, t).gather(1, y[:, None].clamp(0, 9))[:, 0]


def logits(x_t: Tensor, t: Tensor) -> Tensor:
    """A classifier of noised images, with ten classes."""
    size = x_t.square().sum(dim=tuple(range(1, x_t.ndim))) if x_t.ndim > 1 else x_t.square()
    return torch.stack([k * size for k in range(10)], 1)


def pictures(*shape: int) -> st.SearchStrategy[Tensor]:
    """Three images of this shape."""
    dtypes = st.sampled_from([torch.float32, torch.float32, torch.float64])
    return st.builds(lambda seed, dtype: noise(3, *shape, seed=seed, dtype=dtype), st.integers(0, 9), dtypes)


def one_of(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


IMAGES = pictures(1, 4, 4)
INK = st.builds(lambda seed: noise(3, 1, 28, 28, seed=seed).sign(), st.integers(0, 9))
GREY = st.builds(
    lambda seed: (noise(3, 1, 4, 4, seed=seed).clamp(-1, 1) * 127.5 + 127.5).round() / 127.5 - 1, st.integers(0, 9)
)
SCHEDULES = one_of(S, S, ZERO)
TIMES = one_of(
    1, 5, np.int64(12), [1, 5, 12], np.array([3, 2, 1]), torch.tensor([1, 5, 12]), torch.tensor([2, 2, 11]).int()
)
LABELS = one_of(None, torch.tensor([0, 3, 9]), [0, 3, 9], np.array([9, 3, 0]), torch.tensor([1, 2, 3]).byte(), 4)
MODELS = one_of(Network(), Network("x0").eval(), exact.GaussianDenoiser(S), exact.MixtureDenoiser(S, noise(2, 1, 4, 4)))
GENERATORS = one_of(None, 0, 7, np.int64(3)) | st.builds(lambda: torch.Generator().manual_seed(1))
TARGETS, VARIANCES = one_of("eps", "x0", "v", "u"), one_of("beta", "beta_tilde")
BETA, SIZE = one_of(1e-4, 0.02, 0.5, np.float32(0.01)), one_of(1, 2, np.int64(3))
SCALE = one_of(0, 1, 1.0, 2.5, -1, np.float32(0.5))
NUMBER = one_of(0.3, 1, np.float32(2), torch.tensor(0.5), torch.full((1, 1, 4, 4), 0.2), torch.full((3, 1, 4, 4), 0.2))
TABLE = one_of([0.1, 0.2], (0.3,), np.array([0.1, 0.2, 0.4]), torch.tensor([0.1, 0.3]), np.array([0.3, 0.1])[::-1])
WAY = one_of(
    {}, {"steps": 3}, {"steps": np.int64(4), "spacing": "quadratic"}, {"start": 5}, {"start": np.int64(7), "steps": 2},
    {"times": [9, 4, 1]}, {"times": (12, 0)}, {"times": np.array([1, 5])[::-1]}, {"times": torch.tensor([7, 3, 0])},
)  # fmt: skip
KARRAS_WAY = one_of(
    {"steps": 3}, {"steps": np.int64(4), "spacing": "quadratic"}, {"steps": 4, "spacing": "karras"},
    {"start": np.int64(7), "steps": 2}, {"times": [9, 4, 1]}, {"times": (12, 0)},
    {"times": np.array([1, 5])[::-1]}, {"times": torch.tensor([7, 3, 0])},
)  # fmt: skip

# -- arguments of every other kind ------------------------------------------------------------------------------------

NUMBERS: Given = {
    "0": 0, "-1": -1, "3": 3, "2.5": 2.5, "-0.5": -0.5, "10^20": 10**20, "-10^20": -(10**20), "10^400": 10**400, "1e300": 1e300,
    "-1e300": -1e300, "1e-300": 1e-300, "nan": float("nan"), "inf": float("inf"), "-inf": float("-inf"), "1j": 1j,
    "True": True, "np.True": np.True_, "np.int64(3)": np.int64(3), "np.uint8(2)": np.uint8(2), "np.int8(-2)": np.int8(-2),
    "np.float32(0.5)": np.float32(0.5), "np.float64(nan)": np.float64("nan"), "tensor(3)": torch.tensor(3),
    "tensor(-1)": torch.tensor(-1), "tensor(0.5)": torch.tensor(0.5), "tensor(nan)": torch.tensor(float("nan")),
    "tensor(True)": torch.tensor(True), "np.array(3)": np.array(3), "np.array(0.5)": np.array(0.5),
}  # fmt: skip
OTHERS: Given = {
    "None": None, "''": "", "'5'": "5", "'eps'": "eps", "'linear'": "linear", "'beta'": "beta", "b'x'": b"x", "()": (),
    "[]": [], "[1]": [1], "[3, 2, 1]": [3, 2, 1], "[1, 2, 3]": [1, 2, 3], "(0.1, 0.2)": (0.1, 0.2), "[nan]": [float("nan")],
    "[[1], [2]]": [[1], [2]], "ragged": [[1], [2, 3]], "['1']": ["1"], "[None]": [None], "{1: 2}": {1: 2}, "{1, 2, 3}": {1, 2, 3},
    "range(3)": range(3), "range(3, 0, -1)": range(3, 0, -1), "object": object(), "type": dict, "function": lambda *_: None,
    "identity": lambda x, *_: x, "Linear": nn.Linear(2, 2), "Network": Network(), "Network class": Network, "schedule": S,
    "namespace": SimpleNamespace(target="eps", alphas_cumprod=[0.5]), "np.arange(3)": np.arange(3),
    "np.arange(1, 4)[::-1]": np.arange(1, 4)[::-1], "np.zeros(3)": np.zeros(3), "np.str": np.array(["a", "b", "c"]),
    "np.objects": np.array([None, 1, "a"], dtype=object), "zeros(0)": torch.zeros(0), "zeros(3)": torch.zeros(3),
    "zeros(3, 1, 4, 4)": torch.zeros(3, 1, 4, 4), "zeros(1, 4, 4)": torch.zeros(1, 4, 4), "zeros(2, 3)": torch.zeros(2, 3),
    "arange(3)": torch.arange(3), "arange(1, 4).int()": torch.arange(1, 4).int(), "-arange(3)": -torch.arange(3),
    "10^18 + arange(3)": 10**18 + torch.arange(3), "3 bools": torch.tensor([True, False, True]),
    "3 complex": torch.ones(3) * 1j, "zeros on meta": torch.zeros(3, 1, 4, 4, device="meta"), "iterator": "made anew",
}  # fmt: skip


def with_a(value: float) -> Callable[[Tensor], Tensor]:
    """The tensor with one of its numbers exchanged."""

    def change(x: Tensor) -> Tensor:
        changed = x.detach().double().flatten().clone()
        changed[x.numel() // 2] = value
        return changed.reshape(x.shape).to(x.dtype if x.is_floating_point() else torch.float32)

    return change


CHANGES: dict[str, Callable[[Tensor], Any]] = {
    "x[0]": lambda x: x[0], "x[None]": lambda x: x[None], "x[:1]": lambda x: x[:1], "x[:2]": lambda x: x[:2],
    "x[:0]": lambda x: x[:0], "x twice": lambda x: torch.cat([x, x]), "flat": lambda x: x.flatten(),
    "axes moved": lambda x: x.movedim(0, -1), "x[..., :0]": lambda x: x[..., :0], "uint8": lambda x: x.byte(),
    "long": lambda x: x.long(), "int32": lambda x: x.int(), "bool": lambda x: x.bool(), "half": lambda x: x.half(),
    "bfloat16": lambda x: x.bfloat16(), "float": lambda x: x.float(), "double": lambda x: x.double(), "complex": lambda x: x * 1j,
    "-x": lambda x: -x, "1e4 x": lambda x: 10_000 * x, "1e30 x": lambda x: 1e30 * x, "a nan": with_a(float("nan")),
    "an inf": with_a(float("inf")), "all nan": lambda x: x * float("nan"), "numpy": lambda x: x.detach().numpy(),
    "numpy reversed": lambda x: x.detach().numpy()[::-1], "list": lambda x: x.tolist(), "tuple": tuple,
    "meta": lambda x: x.to("meta"), "sparse": lambda x: x.to_sparse(),
    "expanded": lambda x: x[:1].expand(x.shape), "reversed": lambda x: x.flip(0),
    "with gradient": lambda x: x.double().clone().requires_grad_(),
}  # fmt: skip


def exchanged(draw: Callable[[st.SearchStrategy[Any]], Any], value: Any) -> tuple[str, Any]:
    """Something else in the place of a right argument, and what to call it."""
    changes = sorted(CHANGES) if isinstance(value, Tensor) and value.ndim > 0 else []
    name = draw(st.sampled_from([*NUMBERS, *OTHERS, *changes, *changes]))
    if name in CHANGES:
        return name, CHANGES[name](value)
    return name, iter([0.1, 0.2, 0.3]) if name == "iterator" else {**NUMBERS, **OTHERS}[name]


# -- what is promised -------------------------------------------------------------------------------------------------

Shapes = Callable[[Given], "list[tuple[int, ...]] | tuple[int, ...] | None"]  # of each tensor, or one of all of them


@dataclass(frozen=True)
class Row:
    """A function, right arguments for it, and the shapes of the tensors in what it returns.

    names: what its errors may name besides its arguments. hides: arguments whose NaN may disappear, for they are not always
    used. finite: whether finite arguments of ordinary size give finite numbers."""

    call: Callable[..., Any]
    right: dict[str, st.SearchStrategy[Any]]
    shapes: Shapes
    names: tuple[str, ...]
    hides: tuple[str, ...]
    finite: bool


def row(
    call: Callable[..., Any],
    shapes: Shapes = lambda given: None,
    *,
    _names: tuple[str, ...] = (),
    _hides: tuple[str, ...] = (),
    _finite: bool = True,
    **right: st.SearchStrategy[Any],
) -> Row:
    """The row of a function, with its arguments by name."""
    return Row(call, right, shapes, _names, _hides, _finite)


def like(*names: str) -> Shapes:
    """One tensor for each of these arguments, of its shape."""
    return lambda given: [tuple(given[name].shape) for name in names]


def all_like(name: str) -> Shapes:
    """Only tensors of this argument's shape."""
    return lambda given: tuple(given[name].shape)


def one_each(name: str, number: int = 1) -> Shapes:
    """As many tensors, each with one number for each image."""
    return lambda given: [(len(given[name]),)] * number


def tables(given: Given) -> list[tuple[int, ...]]:
    return [(int(given.get("T", 1000)) + 1,)] * 2


def tensors(value: Any) -> Iterator[Tensor]:
    """All tensors and floating-point numbers in what was given or returned."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
        yield torch.from_numpy(value.copy())
    elif isinstance(value, int | float | np.number) and not isinstance(value, bool):
        yield torch.tensor(float("inf") if isinstance(value, int) and abs(value) > 10**300 else float(value))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors(part)
    elif isinstance(value, samplers.Frame):
        yield from (value.x_t, value.x0_hat, value.eps_hat)
    elif isinstance(value, Schedule):
        yield from (value.beta, value.alpha_bar)
    elif isinstance(value, elbo.ElboTerms):
        yield from (value.prior, value.reconstruction, value.denoising)
    elif isinstance(value, vae.VAETerms):
        yield from (value.reconstruction, value.prior_kl)
    elif isinstance(value, AutoencoderTerms):
        yield from (value.squared_error, value.rate)


def dense(x: Tensor) -> bool:
    return x.is_floating_point() and not x.is_meta and x.layout == torch.strided


def ordinary(x: Tensor) -> bool:
    """Finite numbers that neither overflow nor vanish when they are squared, or integers."""
    size = x.detach().double().abs() if dense(x) else torch.zeros(1)
    return x.dtype != torch.float16 and bool((size.isfinite() & (size < 1e5) & ((size == 0) | (size > 1e-5))).all())


def keep(row: Row, arguments: Given, result: Any) -> None:
    """What is returned keeps the row's promises."""
    returned = list(tensors(result))
    shapes = row.shapes(arguments)
    if isinstance(shapes, list):
        assert [tuple(x.shape) for x in returned[: len(shapes)]] == shapes
    elif shapes is not None:
        assert {tuple(x.shape) for x in returned} == {shapes}
    if row.finite and all(map(ordinary, tensors(list(arguments.values())))):
        assert all(bool(x.isfinite().all()) for x in returned)
    came_in = any(
        bool(x.isnan().any())
        for name in arguments
        for x in tensors(arguments[name])
        if name not in row.hides and dense(x)
    )
    if came_in and any(x.numel() for x in returned):
        assert any(bool(x.isnan().any()) for x in returned), "NaN disappeared"


# -- the functions ----------------------------------------------------------------------------------------------------

UNET = unet.UNet(8, (1, 2), 1, num_classes=10).eval()
for weight in UNET.parameters():
    nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(0))
JUDGE, ENCODER = classifier.Classifier(width=2, dim=3).eval(), vae.VAE(width=4)
TRANSFORMER = dit.DiT(8, 1, 2, patch=2, num_classes=10, side=4).eval()
FLOW = coupling.RealNVP((1, 4, 4), layers=2, hidden=3, num_classes=10).eval()
DENOISERS = {
    "gaussian": exact.GaussianDenoiser(S, 0.3, 0.5),
    "mixture": exact.MixtureDenoiser(S, noise(2, 1, 4, 4), 0.1),
    "dataset": exact.DatasetDenoiser(S, noise(20, 1, 4, 4), torch.arange(20) % 10),
    "guided": guidance.ClassifierFreeGuidance(Network(), 2.0),
    "guided by a classifier": guidance.ClassifierGuidance(Network(), S, logits, 1.5),
    "guided by a score": guidance.ScoreGuidance(Network(), S, logits_of_y, 1.5),
    "function": adapters.FunctionDenoiser(lambda x_t, t, y: Network()(x_t, t, y).detach(), "v", 10),
    "diffusers": adapters.DiffusersDenoiser(Foreign()),
    "unet": UNET,
}
FLOATS = st.builds(lambda seed: noise(3, 1, 4, 4, seed=seed), st.integers(0, 9))


def sample(sampler: Callable[..., Iterator[Any]]) -> Callable[..., list[Any]]:
    """All that a sampler yields; `way` are the arguments that name its times."""

    def run(way: Any, **arguments: Any) -> list[Any]:
        named = isinstance(way, dict) and set(way) <= {"steps", "spacing", "start", "times"}
        return list(sampler(**(way if named else {"times": way}), **arguments))

    return run


def exact_call(name: str, hides: tuple[str, ...] = (), images: st.SearchStrategy[Tensor] = IMAGES) -> Row:
    """A denoiser, called as one."""
    return row(DENOISERS[name], like("x_t"), _hides=hides, x_t=images, t=TIMES, y=LABELS)


DIGIT_LABELS = one_of(torch.tensor([0, 3, 9]), [0, 3, 9], np.array([9, 3, 0]), torch.tensor([1, 2, 3]).byte(), 4)
CALLED = ("x_t", "t", "y", "model")
WAYS = (*CALLED, "times", "steps", "spacing", "start")
STEP = dict(schedule=SCHEDULES, t=one_of(5, [7, 8, 9], np.array([12, 2, 3])), s=one_of(None, 0, [1, 1, 1]))
LOSS = dict(model=MODELS, schedule=one_of(S), x0=IMAGES, t=TIMES, eps=IMAGES, y=LABELS)
RUN = dict(model=MODELS, schedule=SCHEDULES, way=WAY, y=LABELS)
UNIFORM, ON_S = [0, 0, *[1 / 11] * 11], one_of(S)

ROWS: dict[str, Row] = {
    # schedules
    "Schedule": row(
        Schedule, like("beta", "alpha_bar"), name=one_of("mine"), beta=one_of(S.beta), alpha_bar=one_of(S.alpha_bar)
    ),
    "Schedule.linear": row(Schedule.linear, tables, T=SIZE, beta_1=BETA, beta_T=BETA),
    "Schedule.quadratic": row(Schedule.quadratic, tables, T=SIZE, beta_1=BETA, beta_T=BETA),
    "Schedule.sigmoid": row(Schedule.sigmoid, tables, T=SIZE, beta_1=BETA, beta_T=BETA),
    "Schedule.cosine": row(Schedule.cosine, tables, T=SIZE, s=one_of(0, 0.008, np.float32(0.1)), max_beta=BETA),
    "Schedule.geometric": row(
        Schedule.geometric,
        tables,
        T=one_of(2, np.int64(3)),
        lowest=one_of(0.02, np.float32(0.5)),
        highest=one_of(30, 2.0),
    ),
    "Schedule.from_betas": row(Schedule.from_betas, betas=TABLE, name=one_of("mine")),
    "Schedule.from_alpha_bar": row(
        Schedule.from_alpha_bar, alpha_bar=one_of([0.9, 0.3], (0.5, 0), np.array([0.1, 0.5])[::-1]), name=one_of("mine")
    ),
    "Schedule.prior_kl": row(S.prior_kl, one_each("x0"), x0=IMAGES),
    "Schedule.subsequence": row(
        S.subsequence,
        lambda given: [(int(given["steps"]) + 1,)],
        steps=SIZE,
        spacing=one_of("uniform", "quadratic"),
        start=one_of(None, 12, np.int64(7)),
    ),
    # the forward process
    "q_step": row(forward.q_step, like("x_prev"), schedule=SCHEDULES, x_prev=IMAGES, t=TIMES, eps_step=IMAGES),
    "q_sample": row(forward.q_sample, like("x0"), schedule=SCHEDULES, x0=IMAGES, t=TIMES | one_of(0), eps=IMAGES),
    "q_posterior": row(forward.q_posterior, like("x_t"), x0=IMAGES, x_t=IMAGES, **STEP),
    # parameterisations
    "eps_from_x0": row(parameterize.eps_from_x0, like("x_t"), schedule=SCHEDULES, x0=IMAGES, x_t=IMAGES, t=TIMES),
    "x0_from_eps": row(parameterize.x0_from_eps, like("x_t"), schedule=ON_S, eps=IMAGES, x_t=IMAGES, t=TIMES),
    "v_from_x0_eps": row(parameterize.v_from_x0_eps, like("x0"), schedule=SCHEDULES, x0=IMAGES, eps=IMAGES, t=TIMES),
    "x0_from_v": row(parameterize.x0_from_v, like("x_t"), schedule=SCHEDULES, v=IMAGES, x_t=IMAGES, t=TIMES),
    "eps_from_v": row(parameterize.eps_from_v, like("x_t"), schedule=SCHEDULES, v=IMAGES, x_t=IMAGES, t=TIMES),
    "x0_from_u": row(parameterize.x0_from_u, like("x_t"), schedule=SCHEDULES, u=IMAGES, x_t=IMAGES, t=TIMES),
    "eps_from_u": row(parameterize.eps_from_u, like("x_t"), schedule=SCHEDULES, u=IMAGES, x_t=IMAGES, t=TIMES),
    "score_from_eps": row(parameterize.score_from_eps, like("eps"), schedule=SCHEDULES, eps=IMAGES, t=TIMES),
    "eps_from_score": row(parameterize.eps_from_score, like("score"), schedule=SCHEDULES, score=IMAGES, t=TIMES),
    "target_of": row(
        parameterize.target_of,
        like("x0"),
        _hides=("x0", "eps"),
        schedule=SCHEDULES,
        target=TARGETS,
        x0=IMAGES,
        eps=IMAGES,
        t=TIMES,
    ),
    "x0_and_eps": row(
        parameterize.x0_and_eps, like("x_t", "x_t"), schedule=ON_S, target=TARGETS, output=IMAGES, x_t=IMAGES, t=TIMES
    ),
    # Gaussians
    "normal_log_density": row(gaussian.normal_log_density, one_each("x"), x=IMAGES, mean=NUMBER, variance=NUMBER),
    "normal_kl": row(
        gaussian.normal_kl,
        one_each("mean_1"),
        mean_1=IMAGES,
        variance_1=NUMBER,
        mean_2=NUMBER | IMAGES,
        variance_2=NUMBER,
    ),
    "discretized_log_likelihood": row(
        gaussian.discretized_log_likelihood,
        one_each("x0"),
        x0=GREY,
        mean=NUMBER,
        variance=NUMBER,
        levels=one_of(256, np.int64(256)),
    ),
    # losses
    "simple_loss": row(losses.simple_loss, one_each("x0"), _names=CALLED, **LOSS),
    "weighted_loss": row(
        losses.weighted_loss, one_each("x0"), _names=CALLED, weight=one_of(losses.bound_weight), **LOSS
    ),
    "bound_weight": row(losses.bound_weight, schedule=ON_S, t=TIMES),
    "min_snr_weight": row(
        losses.min_snr_weight, schedule=SCHEDULES, t=TIMES, gamma=one_of(5, 1.0, np.float32(3)), target=TARGETS
    ),
    # the bound
    "elbo_terms": row(
        elbo.elbo_terms,
        one_each("x0", 2),
        _names=CALLED,
        model=MODELS,
        schedule=SCHEDULES,
        x0=GREY,
        times=one_of(None, 1, np.int64(2), [3, 2], torch.tensor([12])),
        variance=VARIANCES,
        clip=st.booleans(),
        levels=one_of(None, 256, np.int64(256)),
        y=LABELS,
        generator=st.builds(lambda: torch.Generator().manual_seed(1)),
    ),
    "elbo_terms, times drawn": row(
        elbo.elbo_terms,
        one_each("x0", 2),
        _names=CALLED,
        model=MODELS,
        schedule=ON_S,
        x0=GREY,
        times=one_of(1, 3),
        distribution=one_of(UNIFORM, np.array(UNIFORM), torch.tensor(UNIFORM)),
    ),
    "model_variance": row(elbo.model_variance, lambda given: [(13,)], schedule=SCHEDULES, variance=VARIANCES),
    "denoising_kl": row(
        elbo.denoising_kl,
        one_each("x0"),
        _hides=("sigma2",),
        schedule=ON_S,
        x0=IMAGES,
        x0_hat=IMAGES,
        x_t=IMAGES,
        t=one_of(2, [3, 7, 12]),
        sigma2=one_of(elbo.model_variance(S)),
    ),
    "importance_distribution": row(elbo.importance_distribution, mean_squares=TABLE, uniform=one_of(0, 0.5, 1)),
    "mean_and_error": row(
        elbo.mean_and_error, lambda given: [tuple(given["values"].shape[:-1])] * 2, values=pictures(4)
    ),
    # sampling
    "initial_noise": row(
        samplers.initial_noise,
        lambda given: [(int(given["batch"]), *map(int, given["shape"]))],
        seed=SIZE,
        batch=SIZE,
        shape=one_of((), (2,), [1, 4, 4], np.array([3, 2])),
    ),
    "ddpm_step": row(
        samplers.ddpm_step, like("x_t"), x0_hat=IMAGES, x_t=IMAGES, noise=IMAGES, variance=VARIANCES, **STEP
    ),
    "ddim_sigma": row(samplers.ddim_sigma, eta=one_of(0, 0.5, 1.0), **STEP),
    "ddim_step": row(
        samplers.ddim_step, like("x0_hat"), x0_hat=IMAGES, eps_hat=IMAGES, noise=IMAGES, eta=one_of(0, 0.5, 1), **STEP
    ),
    "predict": row(
        samplers.predict,
        all_like("x_t"),
        _names=CALLED,
        model=MODELS,
        schedule=SCHEDULES,
        x_t=IMAGES,
        t=one_of(1, 5, np.int64(12)),
        y=LABELS,
        clip=st.booleans(),
    ),
    "ddpm_sample": row(
        sample(samplers.ddpm_sample),
        all_like("x_T"),
        _names=WAYS,
        x_T=IMAGES,
        variance=VARIANCES,
        clip=st.booleans(),
        generator=GENERATORS,
        **RUN,
    ),
    "ddim_sample": row(
        sample(samplers.ddim_sample),
        all_like("x_T"),
        _names=WAYS,
        x_T=IMAGES,
        eta=one_of(0, 0.5, np.float32(1)),
        clip=st.booleans(),
        generator=GENERATORS,
        **RUN,
    ),
    "ddim_invert": row(
        sample(samplers.ddim_invert), all_like("x_0"), _names=WAYS, x_0=IMAGES, refine=one_of(0, 1, np.int64(2)), **RUN
    ),
    "consistency_sample": row(
        lambda **given: list(consistency.consistency_sample(**given)),
        all_like("x_T"),
        _names=CALLED,
        model=MODELS,
        schedule=SCHEDULES,
        x_T=IMAGES,
        times=one_of(None, [9, 4, 1], (11,), np.array([3, 8])[::-1], torch.tensor([7, 3, 0])),
        y=LABELS,
        clip=st.booleans(),
        generator=GENERATORS,
    ),
    # solvers
    "noise_level": row(solvers.noise_level, lambda given: [(13,)], schedule=SCHEDULES, _finite=False),
    "half_log_snr": row(solvers.half_log_snr, lambda given: [(13,)], schedule=SCHEDULES, _finite=False),
    "karras_times": row(
        solvers.karras_times,
        lambda given: [(int(given["steps"]) + 1,)],
        schedule=SCHEDULES,
        steps=one_of(1, 3, np.int64(4)),
        rho=one_of(1, 7.0, np.float32(3), float("inf")),
        highest=one_of(80, 20.0),
        lowest=one_of(0.02, np.float32(0.3)),
        start=one_of(None, 12, np.int64(5)),
    ),
    "most_karras_steps": row(solvers.most_karras_steps, schedule=SCHEDULES, start=one_of(None, 12, np.int64(5))),
    "dpm_solver_step": row(
        solvers.dpm_solver_step,
        like("x_t"),
        _hides=("before",),  # where s = 0 it is not used
        schedule=SCHEDULES,
        x0_hat=IMAGES,
        x_t=IMAGES,
        t=one_of(5, [7, 8, 9], np.array([11, 2, 3])),
        s=one_of(0, [1, 1, 1]),
        noise=IMAGES,
        eta=one_of(0, 1, np.float32(1)),
        before=one_of(None, (noise(3, 1, 4, 4), 12), (noise(3, 1, 4, 4), [12, 12, 10])),
    ),
    "dpm_solver_sample": row(
        sample(solvers.dpm_solver_sample),
        all_like("x_T"),
        _names=WAYS,
        x_T=IMAGES,
        order=one_of(1, 2, np.int64(2)),
        eta=one_of(0, 1, np.float32(1)),
        clip=st.booleans(),
        generator=GENERATORS,
        **RUN | {"way": KARRAS_WAY},
    ),
    "heun_sample": row(
        sample(solvers.heun_sample),
        all_like("x_T"),
        _names=WAYS,
        x_T=IMAGES,
        churn=one_of(0, 1.5, np.float32(3)),
        clip=st.booleans(),
        generator=GENERATORS,
        **RUN | {"way": KARRAS_WAY, "schedule": ON_S},  # from pure noise the noise level is infinite
    ),
    # Langevin dynamics, the reverse equations, the flow
    "langevin_step": row(
        langevin.langevin_step,
        like("x"),
        x=IMAGES,
        score=IMAGES,
        step=one_of(0.1, np.float32(0.5), torch.tensor([0.1, 0.2, 0.3])),
        noise=IMAGES,
    ),
    "langevin": row(
        lambda **given: list(langevin.langevin(lambda x: -x, **given)),
        all_like("x"),
        x=IMAGES,
        step=one_of(0.1, np.float32(0.5)),
        steps=one_of(0, 2, np.int64(3)),
        generator=GENERATORS,
    ),
    "annealed_step": row(
        langevin.annealed_step,
        like("x_t"),
        schedule=SCHEDULES,
        eps_hat=IMAGES,
        x_t=IMAGES,
        t=TIMES,
        noise=IMAGES,
        ratio=one_of(0.3, 1, np.float32(0.5)),
    ),
    "annealed_langevin": row(
        lambda **given: list(langevin.annealed_langevin(**given)),
        all_like("x_T"),
        _names=CALLED,
        model=MODELS,
        schedule=ON_S,
        x_T=IMAGES,
        times=one_of([9, 4, 1], (11,), np.array([3, 8])[::-1], torch.tensor([7, 3, 0])),
        steps_each=one_of(1, np.int64(2)),
        ratio=one_of(0.3, 1, np.float32(0.5)),
        denoise=st.booleans(),
        clip=st.booleans(),
        y=LABELS,
        generator=GENERATORS,
    ),
    "exponential_step": row(
        sde.exponential_step,
        like("x_t"),
        x0_hat=IMAGES,
        x_t=IMAGES,
        noise=IMAGES,
        lam=one_of(0, 0.5, np.float32(1)),
        **STEP,
    ),
    "euler_maruyama_step": row(
        sde.euler_maruyama_step,
        like("x_t"),
        eps_hat=IMAGES,
        x_t=IMAGES,
        noise=IMAGES,
        lam=one_of(0, 0.5, np.float32(1)),
        **STEP | {"schedule": ON_S},
    ),
    "reverse_sde_sample": row(
        sample(sde.reverse_sde_sample),
        all_like("x_T"),
        _names=WAYS,
        _finite=False,  # a corrector's step is long where the score is small
        x_T=IMAGES,
        lam=one_of(0, 0.5, np.float32(1)),
        step=one_of(*sde.STEPS),
        corrector=one_of(0, 1, np.int64(2)),
        snr=one_of(0.16, np.float32(0.1)),
        clip=st.booleans(),
        generator=GENERATORS,
        **RUN | {"schedule": ON_S},
    ),
    "corrector_step": row(
        sde.corrector_step,
        like("x_t"),
        _finite=False,
        schedule=SCHEDULES,
        eps_hat=IMAGES,
        x_t=IMAGES,
        t=one_of(1, 5, np.int64(12)),
        noise=IMAGES,
        snr=one_of(0.16, np.float32(0.1)),
    ),
    "angle": row(probability_flow.angle, lambda given: [(13,)], schedule=SCHEDULES),
    "probability_flow": row(
        lambda **given: list(probability_flow.probability_flow(**given)),
        all_like("x"),
        _names=CALLED,
        model=MODELS,
        schedule=SCHEDULES,
        x=IMAGES,
        times=one_of([9, 4, 1], (11, 2), np.array([3, 8])[::-1], torch.tensor([7, 3, 0])),
        up=st.booleans(),
        solver=one_of(*probability_flow.SOLVERS),
        y=LABELS,
    ),
    "flow_log_likelihood": row(
        probability_flow.flow_log_likelihood,
        lambda given: [(len(given["x"]),), tuple(given["x"].shape)],
        _names=CALLED,
        model=MODELS,
        schedule=SCHEDULES,
        x=IMAGES,
        times=one_of([9, 4, 1], (11, 2), np.array([3, 8])[::-1], torch.tensor([7, 3, 0])),
        trace=one_of(*probability_flow.TRACES),
        probes=one_of(1, np.int64(2)),
        y=LABELS,
        generator=GENERATORS,
    ),
    # flows
    "flow_time": row(flow.flow_time, lambda given: [(13,)], schedule=SCHEDULES),
    "flow_schedule": row(flow.flow_schedule, tables, T=one_of(2, 5, np.int64(12))),
    "u_from_v": row(flow.u_from_v, like("x_t"), schedule=SCHEDULES, v=IMAGES, x_t=IMAGES, t=TIMES),
    "v_from_u": row(flow.v_from_u, like("x_t"), schedule=SCHEDULES, u=IMAGES, x_t=IMAGES, t=TIMES),
    "flow_state": row(flow.flow_state, like("x_t"), schedule=SCHEDULES, x_t=IMAGES, t=TIMES),
    "velocity": row(
        flow.velocity, like("x_t"), _names=CALLED, model=MODELS, schedule=ON_S, x_t=IMAGES, t=TIMES, y=LABELS
    ),
    "even_flow_times": row(flow.even_flow_times, schedule=SCHEDULES, steps=one_of(1, 3, np.int64(4))),
    "flow_sample": row(
        lambda **given: list(flow.flow_sample(**given)),
        all_like("x_T"),
        _names=CALLED,
        model=MODELS,
        schedule=ON_S,
        x_T=IMAGES,
        steps=one_of(1, 3, np.int64(4)),
        method=one_of("euler", "heun"),
        y=LABELS,
    ),
    "uniform_matrix": row(discrete.uniform_matrix, beta=BETA, K=SIZE),
    "absorbing_matrix": row(discrete.absorbing_matrix, beta=BETA, K=SIZE),
    "transport_pairs": row(flow.transport_pairs, _hides=("x0", "eps"), x0=IMAGES, eps=IMAGES),
    "sample_with": row(
        lambda **given: list(choose.sample_with(**given)),
        all_like("x_T"),
        _names=CALLED,
        model=MODELS,
        schedule=SCHEDULES,
        x_T=IMAGES,
        solver=one_of(*choose.SOLVERS),
        steps=one_of(None, 1, np.int64(3)),
        y=LABELS,
        clip=st.booleans(),
        generator=GENERATORS,
        eta=one_of(0, np.float32(0)),
        start=one_of(None, 11, np.int64(5)),
    ),
    "predict_in_parallel": row(parallel.predict_in_parallel, like("x_t"), model=MODELS, x_t=IMAGES, t=TIMES, y=LABELS),
    # guidance
    "ClassifierFreeGuidance": row(guidance.ClassifierFreeGuidance, model=MODELS, scale=SCALE),
    "ClassifierGuidance": row(
        guidance.ClassifierGuidance, model=MODELS, schedule=SCHEDULES, classifier=one_of(logits), scale=SCALE
    ),
    "ScoreGuidance": row(
        guidance.ScoreGuidance, model=MODELS, schedule=SCHEDULES, score=one_of(logits_of_y), scale=SCALE
    ),
    "log_classifier_gradient": row(
        guidance.log_classifier_gradient,
        like("x_t"),
        classifier=one_of(logits),
        x_t=IMAGES,
        t=TIMES,
        y=one_of([0, 3, 9], torch.tensor([1, 2, 3]).byte(), 4),
    ),
    "guided(x_t, t, y)": exact_call("guided"),
    "guided by a classifier(x_t, t, y)": exact_call("guided by a classifier"),
    "guided by a score(x_t, t, y)": exact_call("guided by a score"),
    # optimal denoisers
    "GaussianDenoiser": row(
        exact.GaussianDenoiser, schedule=SCHEDULES, mean=one_of(0, 0.3, np.float32(1)), variance=one_of(0, 0.3, 1)
    ),
    "MixtureDenoiser": row(
        exact.MixtureDenoiser,
        schedule=SCHEDULES,
        means=IMAGES,
        variance=one_of(0, 0.3),
        weights=one_of(None, torch.tensor([0.5, 0.25, 0.25])),
    ),
    "DatasetDenoiser": row(
        exact.DatasetDenoiser,
        schedule=SCHEDULES,
        images=IMAGES,
        labels=one_of(None, [0, 1, 2], torch.tensor([1, 1, 2])),
    ),
    "gaussian(x_t, t, y)": exact_call("gaussian", hides=("y",)),
    "mixture(x_t, t, y)": exact_call("mixture", hides=("y",)),
    "dataset(x_t, t, y)": exact_call("dataset"),
    "responsibilities": row(
        DENOISERS["mixture"].responsibilities, lambda given: [(len(given["x_t"]), 2)], x_t=IMAGES, t=TIMES
    ),
    "log_density": row(DENOISERS["mixture"].log_density, one_each("x_t"), x_t=IMAGES, t=TIMES),
    "score": row(DENOISERS["mixture"].score, like("x_t"), x_t=IMAGES, t=TIMES),
    # adapters
    "DiffusersDenoiser": row(
        adapters.DiffusersDenoiser,
        network=st.builds(Foreign),
        target=TARGETS | st.none(),
        num_classes=st.none(),
        scheduler=st.none(),
    ),
    "FunctionDenoiser": row(
        adapters.FunctionDenoiser, function=one_of(logits), target=TARGETS, num_classes=one_of(None, 3, np.int64(2))
    ),
    "Pair": row(adapters.Pair, without_label=one_of(logits), with_label=one_of(logits), target=TARGETS),
    "schedule_from_diffusers": row(
        adapters.schedule_from_diffusers,
        _names=("alpha_bar",),
        scheduler=one_of(SimpleNamespace(alphas_cumprod=torch.tensor([0.9, 0.5]))),
    ),
    "function(x_t, t, y)": exact_call("function"),
    "diffusers(x_t, t, y)": row(DENOISERS["diffusers"], like("x_t"), x_t=IMAGES, t=TIMES, y=st.none()),
    # networks
    "UNet": row(
        unet.UNet,
        channels=one_of(1, 4, np.int64(3)),
        multipliers=one_of((1,), [1, 2], np.array([2, 1])),
        blocks=SIZE,
        attention=one_of(0, 1),
        num_classes=one_of(None, 2, np.int64(3)),
        patch=SIZE,
        target=TARGETS,
        image_channels=SIZE,
    ),
    "unet(x_t, t, y)": exact_call("unet", images=FLOATS),
    "time_embedding": row(
        unet.time_embedding, t=one_of(torch.tensor([1, 5]), torch.tensor([3]).int()), dim=one_of(2, 64, np.int64(8))
    ),
    "VAE": row(vae.VAE, latent=SIZE, width=one_of(2, 4, np.int64(8))),
    "VAE.encode": row(ENCODER.encode, lambda given: [(len(given["x"]), 2)] * 2, x=INK),
    "VAE.decode": row(
        ENCODER.decode, lambda given: [(len(given["z"]), 1, 28, 28)], z=st.builds(noise, one_of(3), one_of(2))
    ),
    "VAE.log_likelihood": row(ENCODER.log_likelihood, one_each("x"), x=INK, z=st.builds(noise, one_of(3), one_of(2))),
    "VAE.elbo": row(ENCODER.elbo, one_each("x", 2), x=INK, eps=st.builds(noise, one_of(4), one_of(3), one_of(2))),
    "binarize": row(vae.binarize, like("x"), x=pictures(1, 28, 28)),
    "reparameterize": row(
        vae.reparameterize,
        like("eps"),
        _finite=False,  # sigma is an exponential
        mean=pictures(2),
        log_variance=pictures(2),
        eps=pictures(2) | st.builds(noise, one_of(4), one_of(3), one_of(2)),
    ),
    "prior_kl": row(vae.prior_kl, one_each("mean"), _finite=False, mean=pictures(2), log_variance=pictures(2)),
    "patches": row(
        dit.patches, x=st.builds(noise, one_of(2), one_of(1, 3), one_of(4), one_of(8)), p=one_of(1, 2, np.int64(4))
    ),
    "unpatch": row(
        dit.unpatch,
        tokens=st.builds(noise, one_of(2), one_of(8), one_of(4, 12)),
        p=one_of(2),
        height=one_of(4),
        width=one_of(8),
    ),
    "DiT": row(
        dit.DiT,
        width=one_of(4, np.int64(8)),
        depth=one_of(1, np.int64(2)),
        heads=one_of(1, 2),
        patch=one_of(1, 2),
        num_classes=one_of(None, 2, np.int64(3)),
        target=TARGETS,
        image_channels=SIZE,
        side=one_of(4, np.int64(6)),
    ),
    "DiT.attention_maps": row(
        TRANSFORMER.attention_maps,
        lambda given: [(1, len(given["x_t"]), 2, 4, 4)],
        _finite=False,
        x_t=st.builds(noise, one_of(3), one_of(1), one_of(4), one_of(4)),
        t=one_of(1, 5),
        y=one_of(None, 3),
    ),
    "RealNVP": row(
        coupling.RealNVP,
        shape=one_of((2,), [3], (1, 4, 8)),
        layers=one_of(1, 2, np.int64(3)),
        hidden=one_of(1, np.int64(4)),
        num_classes=one_of(None, 3),
        margin=one_of(None, 0.05),
    ),
    "RealNVP.log_prob": row(FLOW.log_prob, one_each("x"), _finite=False, x=FLOATS, y=DIGIT_LABELS),
    "RealNVP.inverse": row(
        FLOW.inverse,
        lambda given: [(len(given["z"]), 1, 4, 4)],
        _finite=False,
        z=st.builds(noise, one_of(3), one_of(16)),
        y=DIGIT_LABELS,
    ),
    "Classifier": row(classifier.Classifier, width=SIZE, dim=SIZE, num_classes=SIZE),
    "Classifier(x)": row(
        JUDGE, lambda given: [(len(given["x"]), 10)], x=st.builds(noise, one_of(3), one_of(1), one_of(28), one_of(28))
    ),
}
# -- inverse problems, series ------------------------------------------------------------------------------------------

HALF = operators.Linear.mask(torch.arange(16).reshape(1, 4, 4) < 6)
MEASURED = st.builds(lambda seed: noise(3, 6, seed=seed), st.integers(0, 9))
KERNEL, SERIES = gp.periodic_kernel(6, 3.0, noise=0.1), st.builds(lambda seed: noise(6, seed=seed), st.integers(0, 9))
SIX = torch.tensor([True, False, True, True, False, True])
ASKED: Given = {"model": MODELS, "schedule": one_of(S), "x_T": FLOATS, "y": MEASURED, "operator": one_of(HALF)}
BRIEFLY: Given = {"steps": one_of(2, np.int64(3)), "eta": one_of(0, 1.0), "generator": GENERATORS}


def frames_of(sampler: Callable[..., Iterator[Any]]) -> Callable[..., list[Any]]:
    return lambda **given: list(sampler(**given))


ROWS |= {
    "Linear.pool": row(
        lambda **given: operators.Linear.pool(**given).A, size=one_of(4, np.int64(6)), factor=one_of(1, 2)
    ),
    "Linear.blur": row(
        lambda **given: operators.Linear.blur(**given).A, size=SIZE, width=one_of(0.5, 2, np.float32(1))
    ),
    "nullspace_step": row(inverse.nullspace_step, like("x0_hat"), operator=one_of(HALF), y=MEASURED, x0_hat=FLOATS),
    "prediction_variance": row(
        inverse.prediction_variance, schedule=SCHEDULES, t=one_of(1, np.int64(12)), prior_variance=one_of(0, 0.5, 1)
    ),
    "renoise": row(
        inverse.renoise, like("x_s"), schedule=one_of(S), x_s=FLOATS, s=one_of(0, 3), t=one_of(4, 12), eps=FLOATS
    ),
    "repaint_sample": row(
        frames_of(lambda **given: inverse.repaint_sample(seen=torch.arange(16).reshape(1, 4, 4) < 6, **given)),
        all_like("x_T"),
        **{name: ASKED[name] for name in ("model", "schedule", "x_T")},
        known=FLOATS,
        repeats=one_of(1, np.int64(2)),
        _hides=("known",),
        **BRIEFLY,
    ),
    "nullspace_sample": row(frames_of(inverse.nullspace_sample), all_like("x_T"), **ASKED, **BRIEFLY),
    "guided_sample": row(
        frames_of(inverse.guided_sample),
        all_like("x_T"),
        **ASKED,
        sigma_y=one_of(0.1, np.float32(1)),
        prior_variance=one_of(0.5, 1),
        **BRIEFLY,
    ),
    "dps_sample": row(
        frames_of(inverse.dps_sample), all_like("x_T"), **ASKED, step=one_of(0, 0.5, np.float32(1)), **BRIEFLY
    ),
    "edit_sample": row(
        frames_of(inverse.edit_sample),
        all_like("guide"),
        model=MODELS,
        schedule=one_of(S),
        guide=FLOATS,
        start=one_of(5, np.int64(12)),
        **BRIEFLY,
    ),
    "periodic_kernel": row(
        gp.periodic_kernel,
        length=SIZE,
        period=one_of(3, 2.5),
        smoothness=one_of(0.5, 10, np.float32(2)),
        decay=one_of(0.5, 10, np.float32(2)),
        noise=one_of(0, 0.1),
    ),
    "gp_posterior": row(
        lambda K, x: gp.gp_posterior(K, SIX, x), K=one_of(KERNEL), x=SERIES, _hides=("x",), _finite=False
    ),
    "log_evidence": row(
        lambda K, x: gp.log_evidence(K, SIX, x), K=one_of(KERNEL), x=SERIES, _hides=("x",), _finite=False
    ),
}
# -- codes ---------------------------------------------------------------------------------------------------------------

CODER = VQVAE(codes=3, dim=2, width=2).eval()
BOARDS = st.builds(lambda seed: noise(3, 4, seed=seed).abs().long().clamp(max=2), st.integers(0, 9))
SIDES = one_of([2, 2], (1, 3))
ROWS |= {
    "VQVAE": row(
        VQVAE,
        codes=one_of(2, np.int64(3)),
        dim=SIZE,
        width=SIZE,
        blocks=one_of(0, 1),
        decay=one_of(0.0, 0.9),
        restart=one_of(0.0, 0.1),
    ),
    "VQVAE.encode": row(CODER.encode, lambda given: [(len(given["x"]), 1, 1)], _hides=("x",), x=FLOATS),
    "perplexity": row(perplexity, tokens=BOARDS, codes=one_of(3, np.int64(5))),
    "MaskedConv2d": row(
        MaskedConv2d, channels_in=SIZE, channels_out=SIZE, kernel=one_of(1, 3, [3, 5]), kind=one_of("A", "B")
    ),
    "PixelCNN": row(
        PixelCNN, vocab=one_of(2, np.int64(3)), length=SIDES, width=SIZE, layers=SIZE, num_classes=one_of(None, 2)
    ),
    "MaskedAutoencoder": row(
        MaskedAutoencoder,
        side=one_of(4, 8),
        patch=one_of(2),
        width=one_of(4, 8),
        depth=SIZE,
        last=SIZE,
        heads=one_of(1, 2),
    ),
}
# -- latents and cascades --------------------------------------------------------------------------------------------------

FIRST, MAPS = Autoencoder(latent_channels=2, width=2).eval(), pictures(2, 1, 1)
SECOND = ConditionedUNet(picture_channels=1, level=True, channels=4, multipliers=(1,), blocks=1, num_classes=10).eval()
LATENTS = latent.Latents((0.5, -1.0), 2.0)
ROWS |= {
    "Autoencoder": row(Autoencoder, latent_channels=SIZE, width=SIZE, blocks=one_of(0, 1)),
    "Autoencoder.encode": row(FIRST.encode, lambda given: [(len(given["x"]), 2, 1, 1)] * 2, _hides=("x",), x=FLOATS),
    "Autoencoder.terms": row(
        FIRST.terms,
        one_each("x"),
        _hides=("x", "eps"),
        _finite=False,
        x=FLOATS,
        eps=st.builds(noise, one_of(3), one_of(2), one_of(1), one_of(1)),
    ),
    "ConditionedUNet": row(
        ConditionedUNet,
        picture_channels=one_of(0, 1),
        vector=one_of(0, 3),
        level=one_of(True, False),
        channels=one_of(4),
        multipliers=one_of((1,)),
        blocks=one_of(1),
    ),
    "ConditionedUNet(x_t, t, y)": row(
        lambda x_t, t, y, picture, level: SECOND(x_t, t, y, picture=picture, level=level),
        like("x_t"),
        _hides=("x_t", "picture"),
        x_t=FLOATS,
        t=TIMES,
        y=LABELS,
        picture=FLOATS,
        level=TIMES,
    ),
    "MLPDenoiser": row(
        MLPDenoiser, dim=SIZE, table=one_of(None, (3, 2), [2, 1]), width=SIZE, blocks=SIZE, target=one_of("v", "x0")
    ),
    "Latents": row(
        lambda shift, scale: list(latent.Latents(shift, scale).shift),
        shift=one_of((0.0, 1.5), [2, -1]),
        scale=one_of(0.1, 3),
    ),
    "Latents.into": row(LATENTS.into, like("z"), z=pictures(2, 3)),
    "Latents.back": row(LATENTS.back, like("z"), z=pictures(2, 3)),
    "rescaled": row(latent.rescaled, schedule=one_of(S), scale=one_of(0.5, 2, np.float64(1.5))),
    "shrink": row(cascade.shrink, x=IMAGES, factor=one_of(1, 2, np.int64(4))),
    "enlarge": row(cascade.enlarge, c=IMAGES, factor=one_of(1, 2, np.int64(3))),
    "augment": row(cascade.augment, like("c"), schedule=SCHEDULES, c=IMAGES, s=one_of(0, 5, [0, 8, 12]), eps=IMAGES),
}
# -- data, trainer, measures -------------------------------------------------------------------------------------------

CUT = st.builds(lambda seed: noise(8, 1, 4, 4, seed=seed).clamp(-1, 1), st.integers(0, 9))
DATA = one_of(diffnotes.Images(noise(8, 1, 4, 4).clamp(-1, 1), torch.arange(8) % 3, "mine", "here", ("a", "b", "c")))
SETTINGS = diffnotes.TrainConfig(batch_size=2, precision="float32")
RUN = diffnotes.Trainer(
    Network(), S, diffnotes.Images(noise(8, 1, 4, 4).clamp(-1, 1), [0] * 8, "mine", "here"), SETTINGS
)
GAN_LOSSES, LOGITS = one_of("non-saturating", "saturating", "hinge"), pictures()
FEATURES = st.builds(lambda seed: np.random.default_rng(seed).normal(size=(9, 3)), st.integers(0, 9))
ROWS |= {
    "Images": row(
        lambda **given: [diffnotes.Images(**given).x],
        x=CUT,
        y=one_of([0, 1] * 4, np.arange(8), torch.arange(8).byte()),
        name=one_of("mine"),
        source=one_of("here"),
        classes=one_of((), tuple("abcdefgh"), list("abcdefgh")),
    ),
    "TrainConfig": row(
        lambda **given: [diffnotes.TrainConfig(**given)],
        seed=SIZE,
        batch_size=SIZE,
        optimizer=one_of("muon", "adamw"),
        learning_rate=BETA,
        warmup=one_of(0, 3),
        weight_decay=one_of(0, 0.1),
        gradient_clip=BETA,
        ema_decay=one_of(0, 0.5, np.float32(0.9)),
        precision=one_of("auto", "float32"),
        _hides=("seed",),
    ),
    "Denoising": row(
        lambda **given: [diffnotes.Denoising(**given)],
        schedule=SCHEDULES,
        min_snr=one_of(None, 5, np.float32(2)),
        even_times=st.booleans(),
        label_dropout=one_of(0, 0.1, 1),
    ),
    "Consistency": row(
        lambda **given: [diffnotes.Consistency(**given)],
        schedule=SCHEDULES,
        levels=one_of(2, 3, np.int64(5)),
        at_top=one_of(0.25, np.float32(0.5)),
        softness=BETA,
        label_dropout=one_of(0, 0.1, 1),
    ),
    "Likelihood": row(lambda **given: [diffnotes.Likelihood(**given)], bin_width=BETA),
    "Trainer": row(
        lambda **given: [next(diffnotes.Trainer(**given).steps(updates=1)).loss],
        model=st.builds(Network),
        objective=SCHEDULES | one_of(diffnotes.Denoising(S, min_snr=None), diffnotes.Consistency(S, levels=3)),
        data=DATA,
        config=one_of(SETTINGS),
        _names=("x", "y", "x_t", "batch_size", "run"),
    ),
    "Trainer.steps": row(
        lambda updates, seconds: [next(RUN.steps(updates=updates, seconds=seconds), None)],
        updates=one_of(10**6, np.int64(10**6)),
        seconds=st.none(),
    ),
    "load_images": row(
        lambda **given: [diffnotes.load_images(**given).x],
        name=one_of("digits"),
        split=one_of("train", "test"),
        size=one_of(None, 8, np.int64(9)),
        channels=one_of(None, 1, 3),
    ),
    "to_uint8": row(grid.to_uint8, x=IMAGES),
    "grid_image": row(
        lambda **given: [grid.grid_image(**given)],
        x=IMAGES,
        columns=one_of(None, 2, np.int64(1)),
        scale=one_of(1, 2),
        gap=one_of(0, 2),
    ),
    "discriminator_loss": row(adversarial_losses.discriminator_loss, kind=GAN_LOSSES, real=LOGITS, fake=LOGITS),
    "generator_loss": row(adversarial_losses.generator_loss, kind=GAN_LOSSES, fake=LOGITS),
    "gradient_penalty": row(
        adversarial_losses.gradient_penalty,
        lambda given: [(len(given["x"]),)],
        _hides=("x",),  # the slope of a leaky ReLU at NaN is a number
        discriminator=one_of(Discriminator(2)),
        x=pictures(1, 28, 28).filter(lambda x: x.dtype == torch.float32),
    ),
    "gan_sample": row(
        adversarial.gan_sample,
        lambda given: [(int(given["number"]), 1, 28, 28)],
        generator=one_of(Generator(3, 2)),
        number=one_of(1, 3, np.int64(2)),
        labels=one_of(False),
        seed=SIZE,
    ),
    "GanConfig": row(
        lambda **given: [adversarial.GanConfig(**given).r1],
        seed=SIZE,
        batch_size=SIZE,
        loss=GAN_LOSSES,
        r1=one_of(0, 1.0, np.float32(2)),
        r1_every=SIZE,
        learning_rates=one_of((1e-3, 2e-3), [1e-3, np.float32(1)]),
        betas=one_of((0, 0.9), [0.5, 0.5]),
        ema_decay=one_of(0, 0.5, np.float32(0.9)),
    ),
    "Generator": row(
        Generator(3, 2),
        lambda given: [(len(given["z"]), 1, 28, 28)],
        z=pictures(3).filter(lambda x: x.dtype == torch.float32),
        y=st.none(),
    ),
    "Discriminator": row(
        Discriminator(2),
        lambda given: [(len(given["x"]),)],
        x=pictures(1, 28, 28).filter(lambda x: x.dtype == torch.float32),
        y=st.none(),
    ),
    "frechet_distance": row(metrics.frechet_distance, a=FEATURES, b=FEATURES, _finite=False),
    "frechet_infinity": row(
        lambda **given: [metrics.frechet_infinity(**given).value],
        a=st.builds(lambda seed: np.random.default_rng(seed).normal(size=(40, 3)), st.integers(0, 9)),
        b=FEATURES,
        parts=one_of((4, 2, 1), [1, 2], np.array([2, 1])),
        seed=SIZE,
        _finite=False,
    ),
    "inception_score": row(
        metrics.inception_score,
        probabilities=one_of(np.eye(3), [[0.5, 0.5], [1.0, 0.0]], torch.full((4, 2), 0.5)),
    ),
    "in_manifold": row(metrics.in_manifold, these=FEATURES, those=FEATURES, k=one_of(1, 3, np.int64(2))),
    "held_out": row(metrics.held_out, images=CUT, number=one_of(1, 3, np.int64(2)), seed=SIZE),
    "EMA": row(lambda **given: [ema.EMA(**given)], model=st.builds(Network), decay=one_of(0, 0.5, np.float32(0.9))),
}


ELSEWHERE = {
    "load_model", "load_pretrained",  # tests/training
    "DataUnavailable", "ElboTerms", "Frame", "TrainState",  # hold results
}  # fmt: skip


def of_an_exchanged_function(error: Exception) -> bool:
    """Whether it came from a network or function of this file that cannot be called with what a model is called with."""
    frames = traceback.extract_tb(error.__traceback__)
    return "forward()" in str(error) or any(frame.filename == __file__ and frame.name == "forward" for frame in frames)


@pytest.fixture(autouse=True, scope="module")
def as_installed() -> Iterator[None]:
    """Without the type checks of the tests; at the end, how the cases ended."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
    if FUZZ:
        total = Counter(ending for (_, ending), number in ENDINGS.items() for _ in range(number))
        print(f"\n{sum(total.values())} cases over {len({name for name, _ in ENDINGS})} functions: {dict(total)}")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ROWS)
@settings(
    max_examples=FUZZ or 150,
    deadline=None,
    derandomize=not FUZZ,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_arguments_of_every_kind_are_taken_or_refused_by_name(name: str, data: st.DataObject):
    row = ROWS[name]
    arguments = {key: data.draw(strategy) for key, strategy in row.right.items()}
    least = data.draw(st.sampled_from([1, 1, 1, 0]))
    wrong = data.draw(st.lists(st.sampled_from(sorted(arguments)), min_size=least, max_size=least and 3, unique=True))
    for key in wrong:
        label, arguments[key] = exchanged(data.draw, arguments[key])
        note(f"{key} = {label}")
    try:
        result = row.call(**arguments)
    except (ValueError, TypeError) as error:
        ENDINGS[name, "refused"] += 1
        assert wrong, "right arguments were refused"
        names = "|".join(map(re.escape, (*row.right, *row.names)))
        assert re.search(rf"\b({names})\b", str(error)) or of_an_exchanged_function(error), (
            f"names no argument: {error}"
        )
    else:
        ENDINGS[name, "exchanged and taken" if wrong else "right and taken"] += 1
        keep(row, arguments, result)


def test_every_name_that_the_package_hands_on_has_its_row_here_or_its_tests_elsewhere():
    assert {name for name in diffnotes.__all__ if name not in ROWS} <= ELSEWHERE
