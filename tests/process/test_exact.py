import math

import numpy as np
import pytest
import torch

from diffnotes.process.exact import DatasetDenoiser, GaussianDenoiser, MixtureDenoiser
from diffnotes.process.schedules import Schedule

LINEAR = Schedule.linear()
TIMES = [1, 100, 500, 1000]


def column(*values: float) -> torch.Tensor:
    """One-pixel images, float64."""
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1)


def bayes_on_a_grid(x0: np.ndarray, log_prior: np.ndarray, x_t: float, abar: float) -> float:
    """E[x_0 | x_t] of a one-dimensional distribution by summing over a grid of x_0."""
    log_weight = log_prior - (x_t - math.sqrt(abar) * x0) ** 2 / (2 * (1 - abar))
    weight = np.exp(log_weight - log_weight.max())
    return (weight * x0).sum() / weight.sum()


def typical(abar: float, variance: float) -> list[float]:
    """A few x_t inside the distribution of the noised data."""
    return [z * math.sqrt(abar * variance + 1 - abar) for z in (-2.0, -0.3, 0.0, 1.1)]


# -- one Gaussian ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize(("mean", "variance"), [(0.0, 1.0), (0.7, 0.25), (-1.0, 4.0)])
def test_gaussian_denoiser_is_bayes_rule_on_a_grid(linear_tables, t, mean, variance):
    abar = linear_tables[1][t]
    x0 = mean + math.sqrt(variance) * np.linspace(-14, 14, 400_001)
    x_t = [math.sqrt(abar) * mean + x for x in typical(abar, variance)]
    expected = [bayes_on_a_grid(x0, -((x0 - mean) ** 2) / (2 * variance), x, abar) for x in x_t]
    ours = GaussianDenoiser(LINEAR, mean, variance)(column(*x_t), t).flatten().numpy()
    np.testing.assert_allclose(ours, expected, rtol=1e-8, atol=1e-9)


def test_gaussian_denoiser_of_a_constant_is_the_constant():
    ours = GaussianDenoiser(LINEAR, 0.3, 0.0)(torch.randn(5, 2), 500)
    np.testing.assert_allclose(ours.numpy(), np.full((5, 2), 0.3), rtol=1e-6)


@pytest.mark.parametrize("t", TIMES)
def test_tweedie_gives_the_gaussian_denoiser(linear_tables, t):
    """E[x_0 | x_t] = (x_t + (1 - alpha_bar_t) grad log q(x_t)) / sqrt(alpha_bar_t)."""
    abar, mean, variance = linear_tables[1][t], 0.7, 0.25
    x_t = torch.tensor([[0.3, -1.2, 2.0]], dtype=torch.float64, requires_grad=True)
    log_q = -((x_t - math.sqrt(abar) * mean) ** 2) / (2 * (abar * variance + 1 - abar))
    (score,) = torch.autograd.grad(log_q.sum(), x_t)
    expected = (x_t.detach() + (1 - abar) * score) / math.sqrt(abar)
    ours = GaussianDenoiser(LINEAR, mean, variance)(x_t.detach(), t)
    np.testing.assert_allclose(ours.numpy(), expected.numpy(), rtol=1e-9)


# -- a mixture ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", TIMES)
def test_mixture_denoiser_is_bayes_rule_on_a_grid(linear_tables, t):
    abar, means, variance, weights = linear_tables[1][t], [-1.0, 0.2, 1.5], 0.04, [0.2, 0.5, 0.3]
    x0 = np.linspace(-5, 5, 400_001)
    log_prior = np.log(
        sum(w * np.exp(-((x0 - m) ** 2) / (2 * variance)) for w, m in zip(weights, means, strict=True)) + 1e-300
    )
    x_t = typical(abar, 1.0)
    expected = [bayes_on_a_grid(x0, log_prior, x, abar) for x in x_t]
    model = MixtureDenoiser(LINEAR, column(*means), variance, torch.tensor(weights, dtype=torch.float64))
    np.testing.assert_allclose(model(column(*x_t), t).flatten().numpy(), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("t", TIMES)
def test_mixture_denoiser_in_the_plane_is_bayes_rule_on_a_grid(linear_tables, t):
    abar, variance, weights = linear_tables[1][t], 0.09, np.array([0.6, 0.3, 0.1])
    means, x_t = np.array([[1.0, 0.0], [-0.5, 0.8], [-0.5, -0.8]]), np.array([0.25, 0.4])
    x0 = np.stack(np.meshgrid(*[np.linspace(-3, 3, 1501)] * 2, indexing="ij"), axis=-1)
    prior = sum(w * np.exp(-((x0 - m) ** 2).sum(-1) / (2 * variance)) for w, m in zip(weights, means, strict=True))
    weight = prior * np.exp(-((x_t - math.sqrt(abar) * x0) ** 2).sum(-1) / (2 * (1 - abar)))
    expected = (weight[..., None] * x0).sum((0, 1)) / weight.sum()
    model = MixtureDenoiser(LINEAR, torch.tensor(means), variance, torch.tensor(weights))
    ours = model(torch.tensor(x_t)[None], t)[0].numpy()
    np.testing.assert_allclose(ours, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize("variance", [0.0, 0.09])
def test_tweedie_gives_the_mixture_denoiser(linear_tables, t, variance):
    abar, weights = linear_tables[1][t], torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    means = torch.tensor([[1.0, 0.0], [-0.5, 0.8], [-0.5, -0.8]], dtype=torch.float64)
    x_t = torch.tensor([[0.3, 0.1], [-0.6, 1.0], [2.0, -0.5]], dtype=torch.float64, requires_grad=True)
    square = ((x_t[:, None] - math.sqrt(abar) * means) ** 2).sum(-1)
    log_q = (weights.log() - square / (2 * (abar * variance + 1 - abar))).logsumexp(1)
    (score,) = torch.autograd.grad(log_q.sum(), x_t)
    expected = (x_t.detach() + (1 - abar) * score) / math.sqrt(abar)
    ours = MixtureDenoiser(LINEAR, means, variance, weights)(x_t.detach(), t)
    np.testing.assert_allclose(ours.numpy(), expected.numpy(), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("t", TIMES)
def test_responsibilities_are_the_posterior_probabilities_of_the_components(linear_tables, t):
    abar, variance, weights = linear_tables[1][t], 0.09, np.array([0.6, 0.3, 0.1])
    means, x_t = np.array([1.0, -0.5, 0.2]), np.array([0.25, -0.7])
    spread = abar * variance + 1 - abar
    joint = weights * np.exp(-((x_t[:, None] - math.sqrt(abar) * means) ** 2) / (2 * spread))
    expected = joint / joint.sum(1, keepdims=True)
    model = MixtureDenoiser(LINEAR, column(*means), variance, torch.tensor(weights))
    np.testing.assert_allclose(model.responsibilities(column(*x_t), t).numpy(), expected, rtol=1e-8, atol=1e-12)


def test_mixture_without_weights_counts_all_components_alike():
    means, x_t = column(1.0, -0.5, 0.2), column(0.25, -0.7)
    equal = MixtureDenoiser(LINEAR, means, 0.09, torch.full((3,), 1 / 3, dtype=torch.float64))
    np.testing.assert_allclose(MixtureDenoiser(LINEAR, means, 0.09)(x_t, 500).numpy(), equal(x_t, 500).numpy())


@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize("variance", [0.0, 0.25])
def test_mixture_of_one_component_is_the_gaussian(generator, t, variance):
    x_t = torch.randn(5, 1, 2, 2, generator=generator, dtype=torch.float64)
    mixture = MixtureDenoiser(LINEAR, torch.full((1, 1, 2, 2), 0.7, dtype=torch.float64), variance)
    gaussian = GaussianDenoiser(LINEAR, 0.7, variance)
    np.testing.assert_allclose(mixture(x_t, t).numpy(), gaussian(x_t, t).numpy(), rtol=1e-12, atol=1e-14)


# -- a data set -----------------------------------------------------------------------------------------------------


def softmax_mean(images: np.ndarray, x_t: np.ndarray, abar: float) -> np.ndarray:
    """E[x_0 | x_t] over equally likely images, one image after the other."""
    log_weight = np.array([-((x_t - math.sqrt(abar) * image) ** 2).sum() / (2 * (1 - abar)) for image in images])
    weight = np.exp(log_weight - log_weight.max())
    return sum(w * image for w, image in zip(weight, images, strict=True)) / weight.sum()


@pytest.mark.parametrize("t", TIMES)
def test_dataset_denoiser_is_the_softmax_weighted_mean_of_the_images(generator, linear_tables, t):
    images = torch.rand(6, 1, 3, 3, generator=generator, dtype=torch.float64) * 2 - 1
    x_t = torch.randn(4, 1, 3, 3, generator=generator, dtype=torch.float64)
    expected = [softmax_mean(images.numpy(), x.numpy(), linear_tables[1][t]) for x in x_t]
    ours = DatasetDenoiser(LINEAR, images)(x_t, t).numpy()
    np.testing.assert_allclose(ours, expected, rtol=1e-7, atol=1e-9)


def test_dataset_denoiser_with_labels_uses_the_images_of_each_label_alone(generator, linear_tables):
    images = torch.rand(6, 1, 3, 3, generator=generator, dtype=torch.float64) * 2 - 1
    labels, y, t = torch.tensor([0, 2, 0, 1, 2, 2]), torch.tensor([2, 0, 2, 1]), [900, 400, 700, 1000]
    x_t = torch.randn(4, 1, 3, 3, generator=generator, dtype=torch.float64)
    expected = [
        softmax_mean(images[labels == y[i]].numpy(), x_t[i].numpy(), linear_tables[1][t[i]]) for i in range(len(x_t))
    ]
    ours = DatasetDenoiser(LINEAR, images, labels)(x_t, torch.tensor(t), y).numpy()
    np.testing.assert_allclose(ours, expected, rtol=1e-8)


def test_dataset_denoiser_with_labels_uses_all_images_when_no_label_is_asked_for(generator):
    images = torch.rand(6, 1, 3, 3, generator=generator)
    x_t = torch.randn(4, 1, 3, 3, generator=generator)
    labelled = DatasetDenoiser(LINEAR, images, torch.tensor([0, 2, 0, 1, 2, 2]))
    assert torch.equal(labelled(x_t, 800), DatasetDenoiser(LINEAR, images)(x_t, 800))


def test_dataset_denoiser_finds_the_right_one_of_many_pictures_at_the_first_step_in_float32(generator, linear_tables):
    images = torch.rand(50, 1, 28, 28, generator=generator) * 2 - 1
    x_t = math.sqrt(1 - 1e-4) * images[:7] + 0.01 * torch.randn(7, 1, 28, 28, generator=generator)
    np.testing.assert_allclose(DatasetDenoiser(LINEAR, images)(x_t, 1).numpy(), images[:7].numpy(), atol=1e-6)


# -- what all share -------------------------------------------------------------------------------------------------

MODELS = [
    GaussianDenoiser(LINEAR, 0.3, 0.25),
    MixtureDenoiser(LINEAR, torch.tensor([[1.0, 0.0], [-0.5, 0.8]]), 0.09),
    DatasetDenoiser(LINEAR, torch.tensor([[1.0, 0.0], [-0.5, 0.8]])),
]


@pytest.mark.parametrize("model", MODELS, ids=["gaussian", "mixture", "dataset"])
def test_times_per_image_give_what_each_gives_alone(generator, model):
    x_t = torch.randn(4, 2, generator=generator)
    alone = torch.cat([model(x_t[i : i + 1], t) for i, t in enumerate(TIMES)])
    np.testing.assert_allclose(model(x_t, torch.tensor(TIMES)).numpy(), alone.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("model", MODELS, ids=["gaussian", "mixture", "dataset"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_prediction_is_an_image_in_the_dtype_of_x_t(model, dtype):
    assert model.target == "x0"
    assert model(torch.zeros(3, 2, dtype=dtype), 500).dtype == dtype


@pytest.mark.parametrize("model", MODELS[:2], ids=["gaussian", "mixture"])
def test_models_without_labels_predict_with_y_what_they_predict_without(generator, model):
    x_t = torch.randn(3, 2, generator=generator)
    assert torch.equal(model(x_t, 500, torch.tensor([0, 1, 2])), model(x_t, 500))


@pytest.mark.parametrize("model", MODELS, ids=["gaussian", "mixture", "dataset"])
@pytest.mark.parametrize("t", [0, 1001])
def test_times_outside_the_schedule_are_refused(model, t):
    with pytest.raises(ValueError, match=rf"^t must lie in 1\.\.1000, got {t}\.\.{t}$"):
        model(torch.zeros(3, 2), t)


def test_negative_variance_is_refused():
    with pytest.raises(ValueError, match=r"^variance must be >= 0, got -0.1$"):
        GaussianDenoiser(LINEAR, 0.0, -0.1)
    with pytest.raises(ValueError, match=r"^variance must be >= 0, got nan$"):
        MixtureDenoiser(LINEAR, torch.zeros(2, 3), math.nan)


@pytest.mark.parametrize("weights", [[0.5, 0.6], [1.5, -0.5]])
def test_weights_that_are_no_probabilities_are_refused(weights):
    with pytest.raises(ValueError, match=r"^weights must be >= 0 and sum to 1, got \["):
        MixtureDenoiser(LINEAR, torch.zeros(2, 3), 0.1, torch.tensor(weights))


def test_labels_are_refused_by_a_data_set_without_them():
    with pytest.raises(ValueError, match=r"^y was given, but this DatasetDenoiser was made without labels$"):
        DatasetDenoiser(LINEAR, torch.zeros(2, 3))(torch.zeros(1, 3), 5, torch.tensor([0]))


def test_a_label_that_no_image_has_is_refused():
    model = DatasetDenoiser(LINEAR, torch.zeros(2, 3), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"^y holds label 7, which none of the 2 images has$"):
        model(torch.zeros(1, 3), 5, torch.tensor([7]))


def test_settings_of_numpy_are_those_of_python(as_installed, generator):
    x_t = torch.randn(3, 2, generator=generator)
    usual = GaussianDenoiser(LINEAR, 0.25, 0.5)
    numpys = GaussianDenoiser(LINEAR, np.float32(0.25), np.float64(0.5))
    assert torch.equal(numpys(x_t, 500), usual(x_t, 500)) and (type(numpys.mean), type(numpys.variance)) == (
        float,
        float,
    )
    labelled = DatasetDenoiser(LINEAR, torch.randn(3, 2, generator=generator), [0, 1, 1])
    assert torch.equal(labelled(x_t, 500, np.array([1, 0, 1])), labelled(x_t, [500, 500, 500], torch.tensor([1, 0, 1])))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: GaussianDenoiser(LINEAR, "0"), r"^mean must be a finite number, got '0'$"),
        (lambda: GaussianDenoiser(LINEAR, math.inf), r"^mean must be a finite number, got inf$"),
        (lambda: GaussianDenoiser("cosine"), r"^schedule must be a Schedule, got str; "),
        (
            lambda: MixtureDenoiser(LINEAR, torch.zeros(0, 2)),
            r"^means must hold one or more images, got Tensor of shape \(0, 2\)",
        ),
        (
            lambda: MixtureDenoiser(LINEAR, torch.zeros(2, 2).int()),
            r"^means must hold floating-point numbers, got dtype torch\.int32",
        ),
        (
            lambda: MixtureDenoiser(LINEAR, torch.zeros(2, 2), 0.1, torch.tensor([1.0])),
            r"^weights must hold 2 probabilities, one for each mean, got Tensor of shape \(1,\)",
        ),
        (
            lambda: DatasetDenoiser(LINEAR, torch.zeros(2, 2), [0]),
            r"^labels must hold one for each of the 2 images, got ",
        ),
        (
            lambda: DatasetDenoiser(LINEAR, torch.zeros(2, 2), [0.5, 1.0]),
            r"^labels must hold integers, got dtype float64$",
        ),
    ],
)
def test_data_that_are_none_are_refused_by_name(as_installed, make, expected):
    with pytest.raises(ValueError, match=expected):
        make()


def test_images_of_another_shape_than_the_data_are_refused(as_installed):
    for model in (MixtureDenoiser(LINEAR, torch.zeros(2, 3)), DatasetDenoiser(LINEAR, torch.zeros(2, 3))):
        with pytest.raises(ValueError, match=r"^x_t must have the shape of (means|images), \(B, 3\), got \(1, 4\)$"):
            model(torch.zeros(1, 4), 5)


def test_the_target_cannot_be_chosen():
    with pytest.raises(TypeError, match="target"):
        GaussianDenoiser(LINEAR, 0.0, 1.0, target="eps")


# -- the density of a mixture and its score -----------------------------------------------------------------------------


def test_the_mixture_s_log_density_is_scipy_s_and_its_score_the_gradient():
    from scipy.stats import multivariate_normal

    schedule, weights = Schedule.cosine(), torch.tensor([0.5, 0.3, 0.2])
    means = torch.tensor([[-1.2, 0.0], [1.2, 0.5], [0.4, -1.0]], dtype=torch.float64)
    x = torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for t in (1, 300, 900):
        abar = schedule.alpha_bar[t].item()
        v = abar * 0.09 + 1 - abar
        density = sum(
            w * multivariate_normal.pdf(x.numpy(), abar**0.5 * m.numpy(), v)
            for w, m in zip([0.5, 0.3, 0.2], means, strict=True)
        )
        model, at = MixtureDenoiser(schedule, means, 0.09, weights), x.clone().requires_grad_()
        found = model.log_density(at, t)
        torch.testing.assert_close(found.detach(), torch.from_numpy(density).log(), rtol=1e-6, atol=1e-6)
        (gradient,) = torch.autograd.grad(found.sum(), at)
        torch.testing.assert_close(model.score(x, t), gradient, rtol=1e-8, atol=1e-8)


def test_the_density_may_have_another_time_for_each_point():
    schedule, means = Schedule.cosine(), torch.tensor([[-1.0], [1.0]])
    model, x = MixtureDenoiser(schedule, means, 0.1), torch.tensor([[0.2], [0.9]])
    both = model.log_density(x, torch.tensor([100, 700]))
    torch.testing.assert_close(both, torch.cat([model.log_density(x[:1], 100), model.log_density(x[1:], 700)]))
