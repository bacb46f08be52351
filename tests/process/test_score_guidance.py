"""Guidance by a score of image and caption, and negative captions: against exact distributions, and slips that are refused."""

import re

import pytest
import torch
from slips import refuted_by, slipped

from diffnotes.process import guidance
from diffnotes.process.exact import DatasetDenoiser, MixtureDenoiser
from diffnotes.process.guidance import ClassifierFreeGuidance, ClassifierGuidance, ScoreGuidance
from diffnotes.process.parameterize import x0_and_eps
from diffnotes.process.schedules import Schedule

SCHEDULE = Schedule.linear()
POINTS = torch.tensor([[-1.0, 0.2], [0.4, 0.9], [1.0, -0.5], [0.1, 0.1]], dtype=torch.float64)
LABELS = torch.tensor([0, 1, 1, 2])
DATA = DatasetDenoiser(SCHEDULE, POINTS, LABELS)
X_T = torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.tensor([0, 1, 2, 1, 0, 2])
TIMES = torch.tensor([300, 500, 700, 900, 400, 1000])


def log_classes(x_t, t):
    """log q(y | x_t), exactly."""
    shares = MixtureDenoiser(SCHEDULE, POINTS).responsibilities(x_t, t.long())
    return torch.stack([shares[:, LABELS == y].sum(1) for y in range(3)], dim=1).log()


def score(x_t, t, y):
    """The best critic: log q(y | x_t) / q(y), whose gradient in x_t is that of log q(y | x_t)."""
    return log_classes(x_t, t).gather(1, y[:, None])[:, 0] - torch.tensor([0.25, 0.5, 0.25]).log()[y]


def eps_of(model, y):
    return x0_and_eps(SCHEDULE, model.target, model(X_T, TIMES, y), X_T, TIMES)[1]


def with_scale_1_the_best_score_gives_the_conditional_prediction(module):
    guided = module.ScoreGuidance(DATA, SCHEDULE, score, 1.0)
    assert torch.allclose(guided(X_T, TIMES, Y), eps_of(DATA, Y), atol=1e-9)


def a_classifiers_logarithm_makes_it_classifier_guidance(module):
    mine = module.ScoreGuidance(DATA, SCHEDULE, score, 2.5)(X_T, TIMES, Y)
    theirs = ClassifierGuidance(DATA, SCHEDULE, log_classes, 2.5)(X_T, TIMES, Y)
    assert torch.allclose(mine, theirs, atol=1e-9)


def three_terms(module):
    """eps_null + s (eps_plus - eps_null) - (s - 1) (eps_minus - eps_null): the null drops out."""
    plus, minus, null = eps_of(DATA, Y), eps_of(DATA, 1), eps_of(DATA, None)
    for s in (0.0, 1.0, 2.5):
        guided = module.ClassifierFreeGuidance(DATA, s, negative=1)
        expected = null + s * (plus - null) - (s - 1) * (minus - null)
        assert torch.allclose(eps_of(guided, Y), expected, atol=1e-9)


CHECKS = {
    name: check
    for name, check in globals().items()
    if name.startswith(("with_scale_1", "a_classifiers_logarithm", "three_terms"))
}


@pytest.mark.parametrize("name", CHECKS)
def test_the_formulas_hold(name):
    CHECKS[name](guidance)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (
            "return eps + guided.scale * eps_from_score(guided.schedule, gradient(y), t)",
            "return eps - guided.scale * eps_from_score(guided.schedule, gradient(y), t)",
        ),
        (
            "return eps + guided.scale * eps_from_score(guided.schedule, gradient(y), t)",
            "return eps - guided.scale * gradient(y)",
        ),
        ("return null + self.scale * (given - null)", "return given + self.scale * (given - null)"),
        ("None if self.negative is None else as_labels(self.negative, x_t))", "None)"),
    ],
)
def test_slips_are_refused(right, wrong):
    assert refuted_by(slipped(guidance, right, wrong), CHECKS)


def test_at_scale_1_a_negative_caption_does_nothing():
    plain, led = ClassifierFreeGuidance(DATA, 1.0), ClassifierFreeGuidance(DATA, 1.0, negative=0)
    assert torch.equal(plain(X_T, TIMES, Y), led(X_T, TIMES, Y))


def test_negatives_may_differ_from_image_to_image():
    led = ClassifierFreeGuidance(DATA, 2.0, negative=Y.flip(0))
    expected = 2 * eps_of(DATA, Y) - eps_of(DATA, Y.flip(0))
    assert torch.allclose(eps_of(led, Y), expected, atol=1e-9)


def test_without_captions_or_scale_it_is_the_model():
    for guided in (
        ScoreGuidance(DATA, SCHEDULE, score, 0.0)(X_T, TIMES, Y),
        ScoreGuidance(DATA, SCHEDULE, score, 3.0)(X_T, TIMES),
    ):
        assert torch.allclose(guided, eps_of(DATA, None), atol=1e-12)


def test_it_guides_where_gradients_are_switched_off():
    guided = ScoreGuidance(DATA, SCHEDULE, score, 1.5)
    with torch.no_grad():
        inside = guided(X_T, TIMES, Y)
    assert torch.allclose(inside, guided(X_T, TIMES, Y)) and not inside.requires_grad


@pytest.mark.usefixtures("as_installed")
@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: ScoreGuidance(DATA, SCHEDULE, 3, 1.0),
            "score must be a function that can be called as score(x_t, t, y), got 3",
        ),
        (lambda: ScoreGuidance(DATA, SCHEDULE, score, float("nan")), "scale must be a finite number, got nan"),
        (
            lambda: ScoreGuidance(DATA, SCHEDULE, lambda x, t, y: log_classes(x, t), 1.0)(X_T, TIMES, Y),
            "score must give one number for each of the 6 images, got shape (6, 3)",
        ),
    ],
)
def test_wrong_arguments_are_named(call, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        call()
