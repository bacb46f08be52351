"""Latents and cascades against pixels, at equal time; the scale of the latents; and the gap between the stages of a cascade.

train_latent and train_cascade stand for themselves: so many seconds of training in, something that draws digits out.
"""

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import CLIP, Budget, clock, pace
from benchmarks.networks import parameters
from benchmarks.quality import OWN, train_like_ours
from diffnotes import Images, Trainer, ddim_sample, initial_noise
from diffnotes.process.cascade import cascade_sample, enlarge, second_given, shrink
from diffnotes.process.latent import Latents
from diffnotes.training.latents import Codes, encoded
from diffnotes.training.metrics import features_and_probabilities, held_out, quality
from diffnotes.training.train_latents import SCHEDULE, THETA, autoencoder, base, latent, second, small_of

FIRST_STAGE = 0.2  # the autoencoder's share of the time
BASE = 0.55  # the base's share of the time of a cascade
LEVELS = (0, 50, 100, 200, 300, 500)  # of the noise on the small image
SCALES = (0.18, 1.0, 5.5)
STEPS, ETA = 20, 1.0


@dataclass(frozen=True)
class Drawn:
    """What was trained: draw(number, seed) gives digits (number, 1, 28, 28), with the labels 0 to 9 in turn.

    calls  of a network for a digit, over all stages"""

    seconds: float
    updates: int
    parameters: int
    calls: int
    draw: Callable[[int, int], Tensor]
    networks: dict[str, Any]


def trained(make: Callable[[], Trainer], seconds: float) -> tuple[float, int, Any]:
    """Seconds, updates and averaged network of a training of about so many seconds: as many updates as fit in."""
    done = train_like_ours(make(), max(1, round(seconds / pace(make().steps(updates=1000)))))
    return done[0], done[1], done[2].eval().requires_grad_(False)


def train_latent(train: Images, seconds: float) -> Drawn:
    """An autoencoder for a fifth of the time, the codes of all images, and latent diffusion for the rest."""
    spent, first_updates, coder = trained(lambda: autoencoder(train), FIRST_STAGE * seconds)
    started = clock()
    codes, latents = encoded(coder, train)
    spent += clock() - started
    more, updates, unet = trained(lambda: latent(codes), seconds - spent)
    networks = {"autoencoder": coder, "latent": unet, "latents": latents, "first_updates": first_updates}
    size = parameters(coder) + parameters(unet)

    def draw(number: int, seed: int) -> Tensor:
        return coder.decode(latents.back(codes_of(unet, number, seed)))

    return Drawn(spent + more, first_updates + updates, size, STEPS + 1, draw, networks)


def train_cascade(train: Images, seconds: float, most: int = 500, level: int = 100) -> Drawn:
    """A base of small images and a second stage, which draws the large ones from small ones noised to the level."""
    small = small_of(train)
    spent, base_updates, first = trained(lambda: base(small), BASE * seconds)
    more, updates, last = trained(lambda: second(train, most), seconds - spent)
    networks = {"base": first, "second": last, "base_updates": base_updates}
    size = parameters(first) + parameters(last)

    def draw(number: int, seed: int) -> Tensor:
        x_T, y = initial_noise(seed, number, (1, 14, 14)), torch.arange(number) % 10
        return in_parts(number, lambda i: _end(first, last, x_T[i], y[i], level if most else 0, seed + i.start))

    return Drawn(spent + more, base_updates + updates, size, 2 * STEPS, draw, networks)


def _end(first: Any, last: Any, x_T: Tensor, y: Tensor, level: int, seed: int) -> Tensor:
    frames = cascade_sample(first, last, SCHEDULE, x_T, s=level, steps=STEPS, eta=ETA, clip=CLIP, y=y, generator=seed)
    *_, frame = frames
    return frame.x_t


def codes_of(unet: nn.Module, number: int, seed: int, clip: bool = False) -> Tensor:
    """Latents that the network draws, with the labels in turn; not cut, unless asked for: codes have no range."""
    z, y = initial_noise(seed, number, (unet.settings["image_channels"], 7, 7)), torch.arange(number) % 10  # type: ignore[index]
    return in_parts(number, lambda i: drawn(unet, z[i], y[i], seed + i.start, clip))


def drawn(model: Any, x_T: Tensor, y: Tensor, seed: int, clip: bool = CLIP) -> Tensor:
    """The end of the sampler that all are drawn with."""
    *_, frame = ddim_sample(model, SCHEDULE, x_T, steps=STEPS, eta=ETA, clip=clip, y=y, generator=seed)
    return frame.x_t


def in_parts(number: int, draw: Callable[[slice], Tensor]) -> Tensor:
    """A hundred at a time."""
    with torch.no_grad():
        return torch.cat([draw(slice(i, min(i + 100, number))) for i in range(0, number, 100)])


# -- what is measured -----------------------------------------------------------------------------------------------------


def measure(budget: Budget, train: Images, test: Images) -> dict[str, Any]:
    """All parts, one after the other."""
    from benchmarks import prior

    race, networks = measure_race(budget, train, test)
    return {
        **race,
        "scale": measure_scale(budget, train, test, networks),
        "cascade": measure_cascade(budget, train, test, networks),
        "prior": prior.measure(budget, train, test),
    }


def measure_race(budget: Budget, train: Images, test: Images) -> tuple[dict[str, Any], dict[str, Any]]:
    """Pixels, latents and a cascade, each trained for the time in which chapter 6's network makes the last of budget.own updates;
    what the autoencoder alone gives back; and the networks, for the other parts."""
    perfect, real = held_out(test.x, min(budget.perfect, len(test) // 4))
    seconds, updates, pixels = train_like_ours(OWN["ours"].make(train), budget.own[-1])
    pixel = Drawn(seconds, updates, parameters(pixels), STEPS, lambda n, seed: _pixels(pixels.eval(), n, seed), {})
    rows: dict[str, dict[str, Any]] = {}

    def judged(name: str, samples: Tensor, made: Drawn | None = None) -> None:
        rows[name] = {**asdict(quality(samples, real)), "right": right(samples)}
        if made is not None:
            started = clock()
            made.draw(64, 1)
            rows[name] |= {"seconds": made.seconds, "updates": made.updates, "parameters": made.parameters,
                           "calls": made.calls, "drawing_seconds": clock() - started}  # fmt: skip
        print(f"  {name}: {rows[name]}", flush=True)

    n = budget.many
    judged("pixel", pixel.draw(n, 0), pixel)
    made = train_latent(train, seconds)
    judged("latent", made.draw(n, 0), made)
    stages = train_cascade(train, seconds)
    judged("cascade", stages.draw(n, 0), stages)

    coder, unet, latents = (made.networks[name] for name in ("autoencoder", "latent", "latents"))
    judged("clipped", coder.decode(latents.back(codes_of(unet, n, 0, clip=True))))
    noise = torch.randn(n, *coder.code_shape(test.x), generator=torch.Generator().manual_seed(0))
    judged("random_codes", coder.decode(noise))
    mean, log_variance = coder.encode(perfect[:n])
    spread = (log_variance / 2).exp()
    judged("mean_codes", coder.decode(mean))
    judged("drawn_codes", coder.decode(mean + spread * noise[: len(mean)]))
    judged("perfect", perfect[:n])
    x = test.x[: budget.perfect]
    terms = coder.terms(x, torch.randn(len(x), *coder.code_shape(x), generator=torch.Generator().manual_seed(1)))
    parts = [coder.encode(part) for part in x.split(500)]
    means = torch.cat([m for m, _ in parts])
    draws = Latents.measure(means, torch.cat([(v / 2).exp() for _, v in parts]))
    data = {
        "samples": n,
        "real": len(real),
        "images": train.name,
        "threads": torch.get_num_threads(),
        "seconds": seconds,
        "updates": updates,
        "rows": rows,
        "autoencoder": {
            "theta": THETA,
            "updates": made.networks["first_updates"],
            "parameters": parameters(coder),
            "rate_nats": float(terms.rate.mean()),
            "error_of_a_pixel": float(terms.squared_error.mean()) / x[0].numel(),
            "scale": latents.scale,
            "scale_of_the_means": Latents.measure(means).scale,
            "scale_of_the_draws": draws.scale,
        },
        "cost": {
            "latent": _cost(unet, (coder.latent_channels, 7, 7)),
            "pixel": _cost(pixels, (1, 28, 28)),
            "base": _cost(stages.networks["base"], (1, 14, 14)),
        },
    }
    return data, {**made.networks, **stages.networks}


def _pixels(model: nn.Module, number: int, seed: int) -> Tensor:
    x_T, y = initial_noise(seed, number), torch.arange(number) % 10
    return in_parts(number, lambda i: drawn(model, x_T[i], y[i], seed + i.start))


def right(samples: Tensor) -> float:
    """The share of digits, asked for 0 to 9 in turn, that the classifier calls by that name."""
    named = torch.as_tensor(features_and_probabilities(samples)[1].argmax(1))
    return float((named == torch.arange(len(samples)) % 10).double().mean())


def _cost(model: nn.Module, shape: tuple[int, ...]) -> dict[str, float]:
    """Operations and milliseconds of a forward pass, for an image, in batches of 32."""
    x, t, times = torch.zeros(32, *shape), torch.ones(32, dtype=torch.long), []
    with torch.no_grad():
        for _ in range(5):
            started = clock()
            model(x, t)
            times.append((clock() - started) / 32)
    with FlopCounterMode(display=False) as counter:
        model(x[:1], t[:1])
    return {"mflop": counter.get_total_flops() / 1e6, "milliseconds": 1000 * statistics.median(times)}


def measure_scale(budget: Budget, train: Images, test: Images, networks: dict[str, Any]) -> dict[str, Any]:
    """The same latents times k, in training, and divided by k after sampling: a third of the updates of chapter 6's network."""
    _, real = held_out(test.x, min(budget.perfect, len(test) // 4))
    coder, latents = networks["autoencoder"], networks["latents"]
    codes, _ = encoded(coder, train, latents)
    updates, rows = max(1, 2 * budget.own[-1] // 3), {}
    for k in SCALES:
        scaled = Codes(k * codes.x, codes.y, codes.name, f"{codes.source}, times {k:g}", deviation=k * codes.deviation)
        trainer = latent(scaled)
        _, _, unet = train_like_ours(trainer, updates)
        z = codes_of(unet.eval(), budget.many, 0) / k
        losses = [state.loss for state in trainer.history[-100:]]
        rows[f"{k:g}"] = {
            "loss": statistics.fmean(losses),
            "deviation": float(z.double().std()),
            "right": right(coder.decode(latents.back(z))),
            **asdict(quality(coder.decode(latents.back(z)), real)),
        }
        print(f"  scale {k:g}: {rows[f'{k:g}']}", flush=True)
    return {"updates": updates, "rows": rows}


def measure_cascade(budget: Budget, train: Images, test: Images, networks: dict[str, Any]) -> dict[str, Any]:
    """The second stage on true small images and on drawn ones: without augmentation, and with it at several levels."""
    _, real = held_out(test.x, min(budget.perfect, len(test) // 4))
    n, y = budget.many, torch.arange(budget.many) % 10
    x_T = initial_noise(0, n, (1, 14, 14))
    made = in_parts(n, lambda i: drawn(networks["base"], x_T[i], y[i], i.start))
    truth = in_turn(test, n)
    conditions = {"true": shrink(truth), "drawn": made}
    updates = max(1, 2 * budget.own[-1] // 3)
    rows: dict[str, list[dict[str, Any]]] = {}
    for name, most in (("without", 0), ("with", 500)):
        seconds, _, last = train_like_ours(second(train, most), updates)
        for s in LEVELS if most else (0,):
            point: dict[str, Any] = {"s": s, "seconds": seconds}
            for kind, c in conditions.items():
                x = enlarged(last, c, y, s)
                off = (shrink(x) - c).square().mean().sqrt()
                point[kind] = {**asdict(quality(x, real)), "right": right(x), "off": float(off)}
            rows.setdefault(name, []).append(point)
            print(f"  {name}, s = {s}: {point}", flush=True)
    small = {kind: asdict(quality(enlarge(c), enlarge(shrink(real)))) for kind, c in conditions.items()}
    return {"updates": updates, "most": 500, "rows": rows, "small": small, "right": right(enlarge(made))}


def enlarged(last: Any, c: Tensor, y: Tensor, s: int) -> Tensor:
    """The large images that the second stage draws for small ones, noised to the level s; always from the same noise."""
    eps, start = initial_noise(1, len(c), (1, 14, 14)), initial_noise(2, len(c))

    def part(i: slice) -> Tensor:
        return drawn(second_given(last, SCHEDULE, c[i], s, eps[i]), start[i], y[i], 3 + i.start)

    return in_parts(len(c), part)


def in_turn(images: Images, number: int) -> Tensor:
    """Images of the labels 0 to 9 in turn, as far as there are some."""
    taken = [0] * 10
    found = []
    of = [(images.y == label).nonzero()[:, 0] for label in range(10)]
    for i in range(number):
        label = i % 10 if len(of[i % 10]) else int(images.y[0])
        found.append(of[label][taken[label] % len(of[label])])
        taken[label] += 1
    return images.x[torch.stack(found)]
