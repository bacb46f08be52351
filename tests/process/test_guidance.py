import math
import warnings

import numpy as np
import pytest
import torch

from diffnotes.process.exact import DatasetDenoiser, MixtureDenoiser
from diffnotes.process.guidance import ClassifierFreeGuidance, ClassifierGuidance, log_classifier_gradient
from diffnotes.process.parameterize import target_of, x0_and_eps
from diffnotes.process.samplers import ddim_sample
from diffnotes.process.schedules import Schedule

SCHEDULE = Schedule.linear()
POINTS = torch.tensor([[-1.0, 0.2], [0.4, 0.9], [1.0, -0.5], [0.1, 0.1]], dtype=torch.float64)
LABELS = torch.tensor([0, 1, 1, 2])
DATA = DatasetDenoiser(SCHEDULE, POINTS, LABELS)
X_T = torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.tensor([0, 1, 2, 1, 0, 2])
TIMES = torch.tensor([300, 500, 700, 900, 400, 1000])


class Predicting:
    """The exact denoiser of the data, with another prediction target, and counting its calls."""

    def __init__(self, target: str) -> None:
        self.target, self.calls = target, 0

    def __call__(self, x_t, t, y=None):
        self.calls += 1
        x0, eps = x0_and_eps(SCHEDULE, "x0", DATA(x_t, t, y), x_t, t)
        return target_of(SCHEDULE, self.target, x0, eps, t)


def eps_of(model, y=Y):
    return x0_and_eps(SCHEDULE, model.target, model(X_T, TIMES, y), X_T, TIMES)[1]


def log_classes(x_t, t):
    """log q(y | x_t), exactly."""
    shares = MixtureDenoiser(SCHEDULE, POINTS).responsibilities(x_t, t.long())
    return torch.stack([shares[:, LABELS == y].sum(1) for y in range(3)], dim=1).log()


@pytest.mark.parametrize("target", ["eps", "x0", "v", "u"])
@pytest.mark.parametrize("scale", [-1.0, 0.0, 0.5, 1.0, 3.0])
def test_guidance_is_the_same_formula_in_every_target(target, scale):
    null, given = eps_of(DATA, None), eps_of(DATA)
    guided = ClassifierFreeGuidance(Predicting(target), scale)
    assert guided.target == target
    assert torch.allclose(eps_of(guided), (1 - scale) * null + scale * given, atol=1e-10)


@pytest.mark.parametrize(("scale", "calls"), [(0.0, 1), (1.0, 1), (2.0, 2)])
def test_it_calls_the_model_no_more_often_than_it_must(scale, calls):
    model = Predicting("v")
    ClassifierFreeGuidance(model, scale)(X_T, TIMES, Y)
    assert model.calls == calls


def test_without_labels_the_prediction_is_unconditional():
    assert torch.equal(ClassifierFreeGuidance(DATA, 5.0)(X_T, TIMES), DATA(X_T, TIMES))


def test_a_guided_sampler_pushes_towards_the_class_asked_for():
    """Two points of class 1, one of them nearer to the others: strong guidance prefers the one that is not."""
    data = DatasetDenoiser(SCHEDULE, torch.tensor([[-0.5], [0.0], [1.0]]), torch.tensor([0, 1, 1]))
    x_T, y = torch.randn(400, 1, generator=torch.Generator().manual_seed(1)), torch.ones(400, dtype=torch.long)
    far = {}
    for scale in (1.0, 4.0):
        *_, last = ddim_sample(ClassifierFreeGuidance(data, scale), SCHEDULE, x_T, steps=50, y=y)
        far[scale] = (last.x_t > 0.5).double().mean().item()
    assert abs(far[1.0] - 0.5) < 0.1 and far[4.0] > 0.8


@pytest.mark.parametrize("target", ["eps", "x0", "v", "u"])
def test_an_exact_classifier_at_scale_1_turns_the_unconditional_model_into_the_conditional_one(target):
    guided = ClassifierGuidance(Predicting(target), SCHEDULE, log_classes, 1.0)
    assert guided.target == "eps"
    assert torch.allclose(guided(X_T, TIMES, Y), eps_of(DATA), atol=1e-9)


def test_with_exact_parts_both_kinds_of_guidance_are_one():
    with_classifier = ClassifierGuidance(DATA, SCHEDULE, log_classes, 2.5)
    assert torch.allclose(with_classifier(X_T, TIMES, Y), eps_of(ClassifierFreeGuidance(DATA, 2.5)), atol=1e-9)


def test_without_labels_or_scale_the_classifier_is_not_asked():
    def never(x_t, t):
        raise AssertionError("asked")

    assert torch.equal(ClassifierGuidance(DATA, SCHEDULE, never, 2.0)(X_T, TIMES), eps_of(DATA, None))
    assert torch.equal(ClassifierGuidance(DATA, SCHEDULE, never, 0.0)(X_T, TIMES, Y), eps_of(DATA, None))


def test_the_gradient_is_taken_with_respect_to_the_image_also_where_gradients_are_off():
    """For logits (0, a x) the gradient of log p(1 | x) is a (1 - p(1 | x))."""
    x_t, t = torch.tensor([[0.3], [-0.7]]), torch.tensor([1, 1])
    with torch.no_grad():
        gradient = log_classifier_gradient(
            lambda x, t: torch.cat([torch.zeros_like(x), 3 * x], 1), x_t, t, torch.tensor([1, 1])
        )
    assert torch.allclose(gradient, 3 * torch.sigmoid(-3 * x_t), atol=1e-6)
    assert not x_t.requires_grad


@pytest.mark.parametrize("scale", [math.nan, math.inf])
def test_a_scale_that_is_no_number_is_refused(scale):
    with pytest.raises(ValueError, match=f"scale must be a finite number, got {scale}"):
        ClassifierFreeGuidance(DATA, scale)
    with pytest.raises(ValueError, match=f"scale must be a finite number, got {scale}"):
        ClassifierGuidance(DATA, SCHEDULE, log_classes, scale)


def test_a_classifier_must_give_logits_for_each_image():
    with pytest.raises(ValueError, match=r"logits \(batch, classes\), got shape \(6,\) for 6 images"):
        log_classifier_gradient(lambda x, t: x.sum(1), X_T, TIMES, Y)
    with pytest.raises(ValueError, match=r"logits \(batch, classes\), got shape \(5, 2\) for 6 images"):
        log_classifier_gradient(lambda x, t: x[1:], X_T, TIMES, Y)


class WithoutDropout(Predicting):
    """A model that its trainer trained without dropping labels."""

    label_dropout, num_classes = 0.0, 3


@pytest.mark.parametrize("scale", [0, 0.5, 2.0, -1.0])
def test_guiding_a_model_that_never_saw_the_null_label_warns(scale):
    with pytest.warns(
        UserWarning, match=rf"^model was trained with label_dropout = 0: .* guidance with scale = {scale:g} gives "
    ):
        ClassifierFreeGuidance(WithoutDropout("v"), scale)


def test_there_is_no_warning_where_the_null_label_is_not_needed_or_was_trained():
    class Trained(WithoutDropout):
        label_dropout = 0.1

    class Unconditional(WithoutDropout):
        num_classes = None

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ClassifierFreeGuidance(WithoutDropout("v"), 1)
        ClassifierFreeGuidance(Trained("v"), 2.0)
        ClassifierFreeGuidance(Unconditional("v"), 2.0)
        ClassifierFreeGuidance(Predicting("v"), 2.0)  # nothing is known of it


def test_a_guided_model_has_the_images_of_its_model():
    model = Predicting("v")
    guides = ClassifierFreeGuidance(model, 2.0), ClassifierGuidance(model, SCHEDULE, log_classes, 1.0)
    assert [guided.item_shape for guided in guides] == [None, None]
    model.item_shape = (2,)
    assert [guided.item_shape for guided in guides] == [(2,), (2,)]
    with pytest.raises(ValueError, match=r"^x_T must be a batch of images \(B, 2\), got shape \(1, 6, 2\)$"):
        ddim_sample(guides[0], SCHEDULE, X_T[None], steps=2)


def test_scales_and_labels_of_numpy_are_those_of_python(as_installed):
    usual = ClassifierFreeGuidance(DATA, 2.0)(X_T, TIMES, Y)
    for scale, y in ((np.float32(2), Y.tolist()), (2, Y.numpy()), (torch.tensor(2.0), Y.byte())):
        assert torch.equal(ClassifierFreeGuidance(DATA, scale)(X_T, TIMES.tolist(), y), usual)
    with pytest.raises(ValueError, match=r"^scale must be a finite number, got '2'$"):
        ClassifierFreeGuidance(DATA, "2")


def test_a_label_that_the_classifier_has_not_is_refused():
    with pytest.raises(
        ValueError, match=r"^y must hold labels 0\.\.2, of which classifier gives logits, got \[0, 1, 2, 1, 0, 3\]$"
    ):
        log_classifier_gradient(log_classes, X_T, TIMES, [0, 1, 2, 1, 0, 3])
    with pytest.raises(ValueError, match=r"^classifier must give logits \(batch, classes\), got 5 for 6 images$"):
        log_classifier_gradient(lambda x, t: 5, X_T, TIMES, Y)
