"""Small images, noise on them, and a cascade whose exact answer is known."""

import pytest
import torch
from torch.nn import functional as F

from diffnotes.process import cascade
from diffnotes.process.cascade import augment, cascade_sample, enlarge, second_given, shrink
from diffnotes.process.exact import GaussianDenoiser
from diffnotes.process.given import Given
from diffnotes.process.samplers import Frame
from diffnotes.process.schedules import Schedule


class Second:
    """The exact denoiser of x given c_s for data with independent pixels within a block: c ~ N(0, 1), x = c + 0.5 (noise whose
    mean over each block is 0). What it is given is c itself; `told` lists the levels it was given."""

    target, num_classes, item_shape = "x0", None, None

    def __init__(self, schedule: Schedule, of_level: bool) -> None:
        self.schedule, self.of_level, self.told = schedule, (object() if of_level else None), []

    def __call__(self, x_t, t, y=None, picture=None, level=None):
        self.told.append(None if level is None else level.tolist())
        abar = self.schedule.alpha_bar[t][:, None, None, None].to(x_t)
        rest = x_t - abar.sqrt() * picture
        rest = rest - enlarge(shrink(rest))  # the block's mean is that of c
        gain = abar.sqrt() * 0.25 / (abar * 0.25 + 1 - abar)
        return picture + gain * rest


def test_shrink_is_a_mean_and_enlarge_its_inverse_on_small_images(generator):
    x = torch.randn(2, 3, 8, 12, generator=generator)
    for factor in (1, 2, 4):
        assert torch.equal(shrink(x, factor), F.avg_pool2d(x, factor))
        c = shrink(x, factor)
        torch.testing.assert_close(shrink(enlarge(c, factor), factor), c)
        assert torch.equal(enlarge(c, factor), F.interpolate(c, scale_factor=float(factor), mode="nearest"))


def test_every_image_gets_its_own_level(generator):
    schedule = Schedule.linear(T=100)
    c, eps = torch.randn(2, 3, 1, 4, 4, generator=generator)
    noisy = augment(schedule, c, torch.tensor([0, 30, 100]), eps)
    assert torch.equal(noisy[0], c[0])
    abar = schedule.alpha_bar[30].float()
    torch.testing.assert_close(noisy[1], abar.sqrt() * c[1] + (1 - abar).sqrt() * eps[1])


def test_a_cascade_of_exact_denoisers_draws_from_the_data(generator):
    """p(x) = p(c) p(x | c): small images of variance 1, the rest of variance 0.25 less the mean of each block, 3/16."""
    schedule = Schedule.cosine(T=200)
    base, second = GaussianDenoiser(schedule), Second(schedule, of_level=False)
    x_T = torch.randn(400, 1, 4, 4, generator=generator, dtype=torch.float64)
    frames = list(cascade_sample(base, second, schedule, x_T, steps=100, clip=False, generator=generator))
    assert len(frames) == 202 and all(isinstance(frame, Frame) for frame in frames)
    c, x = frames[100].x_t, frames[-1].x_t
    assert c.shape == (400, 1, 4, 4) and x.shape == (400, 1, 8, 8)
    rest = x - enlarge(c)
    assert c.var() == pytest.approx(1, abs=0.1)
    torch.testing.assert_close(shrink(rest), torch.zeros_like(c), rtol=0, atol=0.02)
    assert rest.square().mean() == pytest.approx(3 / 16, abs=0.02)


def test_the_level_is_told_and_put_on_the_condition(generator):
    schedule = Schedule.cosine(T=20)
    c, eps = torch.randn(2, 3, 1, 2, 2, generator=generator)
    for of_level in (True, False):
        second = Second(schedule, of_level)
        given = second_given(second, schedule, c, 7, eps)
        torch.testing.assert_close(given.side["picture"], enlarge(augment(schedule, c, 7, eps)))
        given(torch.zeros(3, 1, 4, 4), torch.tensor([5, 5, 5]))
        assert second.told == ([[7, 7, 7]] if of_level else [None])


def test_with_a_seed_an_image_does_not_depend_on_the_others(generator):
    schedule = Schedule.cosine(T=20)
    base, second = GaussianDenoiser(schedule), Second(schedule, of_level=True)
    x_T = torch.randn(3, 1, 2, 2, generator=generator)
    how = dict(s=5, steps=5, generator=11)
    *_, all_of_them = cascade_sample(base, second, schedule, x_T, **how)
    *_, two = cascade_sample(base, second, schedule, x_T[:2], **how)
    torch.testing.assert_close(all_of_them.x_t[:2], two.x_t)
    *_, other = cascade_sample(base, second, schedule, x_T, **(how | {"generator": 12}))
    assert not torch.allclose(other.x_t, all_of_them.x_t)


def test_one_seed_gives_three_unrelated_noises(monkeypatch):
    """That of the first stage's steps, that on the condition and at the second stage's start, that of its steps."""
    asked = []
    for name in ("ddim_sample", "Noise"):
        whole = getattr(cascade, name)

        def watched(*given, whole=whole, name=name, **named):
            asked.append(named["generator"] if name == "ddim_sample" else given[0])
            return whole(*given, **named)

        monkeypatch.setattr(cascade, name, watched)
    schedule = Schedule.cosine(T=20)
    base = GaussianDenoiser(schedule)
    for seed in (0, 7):
        list(
            cascade_sample(
                base, Second(schedule, of_level=True), schedule, torch.zeros(2, 1, 4, 4), steps=2, generator=seed
            )
        )
    assert len(asked) == len(set(asked)) == 6


def test_given_keeps_what_samplers_ask_for(generator):
    second = Second(Schedule.cosine(T=20), of_level=True)
    second.num_classes, second.label_dropout = 10, 0.1
    given = Given(second, picture=torch.zeros(2, 1, 4, 4))
    assert (given.target, given.num_classes, given.label_dropout) == ("x0", 10, 0.1)
    assert given(torch.zeros(2, 1, 4, 4), torch.tensor([1, 1])).shape == (2, 1, 4, 4)


@pytest.mark.usefixtures("as_installed")
def test_what_is_refused():
    schedule, x = Schedule.cosine(T=20), torch.zeros(2, 1, 4, 6)
    second = Second(schedule, of_level=True)
    for make, words in (
        (lambda: shrink(x, 4), r"x must have height and width divisible by factor = 4, got \(4, 6\)"),
        (lambda: shrink(x[0]), r"x must be images of shape \(B, C, H, W\), got shape \(1, 4, 6\)"),
        (lambda: enlarge(x, 0), "factor must be an integer from 1 to 64, got 0"),
        (lambda: augment(schedule, x, 21, x), "s must lie in 0..20, got 21"),
        (
            lambda: augment(schedule, x, [1], x),
            r"s must be one level, or one for each of the 2 images, got shape \(1,\)",
        ),
        (lambda: augment(schedule, x, 3, x[:1]), "c and eps must have the same shape"),
        (lambda: Given(3), r"model must be a function that can be called as model\(x_t, t, y, ...\), got 3"),
        (
            lambda: Given(second, picture=x)(x[:1], torch.tensor([1])),
            "x_t must have as many images as picture, 2, got 1",
        ),
        (
            lambda: list(cascade_sample(GaussianDenoiser(schedule), second, schedule, x, s=30)),
            "s must be an integer from 0 to T = 20, got 30",
        ),
    ):
        with pytest.raises(ValueError, match=f"^{words}"):
            make()
