"""The measures of quality against closed forms, brute force, and images that must fool one and not another."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from diffnotes.models.classifier import Classifier
from diffnotes.process.choose import SOLVERS, sample_with
from diffnotes.process.samplers import ddim_sample, initial_noise
from diffnotes.process.schedules import Schedule
from diffnotes.training import metrics
from diffnotes.training.metrics import (
    draw_samples,
    features_and_probabilities,
    frechet_distance,
    frechet_infinity,
    held_out,
    in_manifold,
    inception_score,
    label_entropy,
    quality,
    recognised,
)


def normal_points(n: int, mean: list[float], covariance: np.ndarray, seed: int = 0) -> np.ndarray:
    """n points whose sample mean and covariance are exactly these."""
    z = np.random.default_rng(seed).normal(size=(n, len(mean)))
    z -= z.mean(0)
    z = z @ np.linalg.inv(np.linalg.cholesky(np.atleast_2d(np.cov(z, rowvar=False)))).T
    return z @ np.linalg.cholesky(covariance).T + np.array(mean)


def test_frechet_on_a_line_is_the_distance_of_means_and_deviations():
    a, b = normal_points(50, [1.0], np.array([[4.0]])), normal_points(70, [-2.0], np.array([[0.25]]), seed=1)
    assert frechet_distance(a, b) == pytest.approx((1 + 2) ** 2 + (2 - 0.5) ** 2, rel=1e-9)


def test_frechet_with_covariances_that_do_not_commute():
    A, B = np.array([[2.0, 0.7], [0.7, 1.0]]), np.array([[1.0, -0.4], [-0.4, 3.0]])
    a, b = normal_points(40, [0.0, 1.0], A), normal_points(60, [0.5, -1.0], B, seed=1)
    assert np.linalg.norm(A @ B - B @ A) > 0.5
    assert frechet_distance(a, b) == pytest.approx(0.25 + 4 + np.trace(A + B - 2 * sqrtm(A @ B).real), rel=1e-9)


def test_frechet_is_zero_from_a_set_to_itself_and_the_same_both_ways():
    a, b = normal_points(40, [0.0, 1.0], np.diag([2.0, 1.0])), normal_points(60, [0.5, -1.0], np.eye(2), seed=1)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)


def test_frechet_with_features_that_never_move():
    a, b = np.zeros((10, 3)), np.zeros((12, 3))
    b[:, 0] = np.resize([1.0, -1.0], 12)
    assert frechet_distance(a, b) == pytest.approx(b[:, 0].var(ddof=1))


def test_frechet_wants_two_images():
    with pytest.raises(ValueError, match=r"b must hold features of two or more images, \(N, dim\), got shape \(1, 3\)"):
        frechet_distance(np.zeros((5, 3)), np.zeros((1, 3)))


def test_recognised_is_above_95_per_cent_for_one_label():
    assert recognised(np.array([[0.96, 0.04], [0.05, 0.95], [0.5, 0.5], [0.0, 1.0]])).tolist() == [1, 0, 0, 1]


def test_entropy_of_labels():
    assert label_entropy(np.eye(10)) == pytest.approx(math.log(10))
    assert label_entropy(np.eye(10)[[3, 3, 3]]) == 0
    assert label_entropy(np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])) == pytest.approx(
        -(2 / 3) * math.log(2 / 3) - (1 / 3) * math.log(1 / 3)
    )


@pytest.mark.parametrize("k", [1, 3])
def test_among_against_its_definition_point_by_point(k):
    dice = np.random.default_rng(5)
    these, those = dice.normal(size=(30, 2)) * 1.5, dice.normal(size=(20, 2))
    expected = []
    for x in these:
        inside = False
        for i, y in enumerate(those):
            others = sorted(math.dist(y, z) for j, z in enumerate(those) if j != i)
            inside = inside or math.dist(x, y) <= others[k - 1]
        expected.append(float(inside))
    assert 0 < sum(expected) < 30
    assert in_manifold(these, those, k).tolist() == expected


@pytest.mark.parametrize("k", [0, 4])
def test_among_wants_enough_neighbours(k):
    with pytest.raises(ValueError, match=f"k must lie between 1 and 3, one less than there are points, got {k}"):
        in_manifold(np.zeros((2, 2)), np.zeros((4, 2)), k)


def test_two_clusters_tell_precision_from_recall():
    dice = np.random.default_rng(2)
    real = np.concatenate([dice.normal(size=(50, 2)), dice.normal(size=(50, 2)) + 20])
    one_cluster, with_noise = dice.normal(size=(100, 2)) * 0.9, np.concatenate([real + 0.01, real * 7 + 100])
    assert (
        in_manifold(one_cluster, real).mean() > 0.9 and in_manifold(real, one_cluster).mean() < 0.6
    )  # good, but not all of it
    assert (
        in_manifold(with_noise, real).mean() < 0.6 and in_manifold(real, with_noise).mean() == 1
    )  # all of it, and rubbish


def test_the_classifier_that_ships_reads_digits_and_not_noise(digits, generator):
    x = digits.x[:500]
    _, said = features_and_probabilities(x)
    _, of_noise = features_and_probabilities(torch.randn(500, 1, 28, 28, generator=generator))
    assert (said.argmax(1) == digits.y[:500].numpy()).mean() > 0.9  # other digits than it was trained on
    assert recognised(of_noise).mean() < 0.5 < recognised(said).mean()


def test_the_classifier_that_ships_is_small_and_its_card_says_how_good():
    tensors, card = metrics.checkpoint.read(metrics.CLASSIFIER)
    assert metrics.CLASSIFIER.stat().st_size <= 1e6
    assert card["accuracy"] >= 0.993
    text = (metrics.WEIGHTS / "classifier.md").read_text(encoding="utf-8")
    assert f"{100 * card['accuracy']:.2f} %" in text and f"{sum(w.numel() for w in tensors.values()):,}" in text


def test_what_is_beyond_the_range_is_cut_off_before_it_is_looked_at(digits):
    x = digits.x[:4]
    assert np.array_equal(
        features_and_probabilities(x)[0], features_and_probabilities(torch.where(x >= 1, x * 3, x))[0]
    )


def test_quality_of_real_digits_of_noise_and_of_one_digit_again_and_again(digits, generator):
    order = torch.randperm(len(digits), generator=generator)
    some, others = digits.x[order[:400]], digits.x[order[400:]]
    real = quality(some, others)
    noise = quality(torch.randn(some.shape, generator=generator), others)
    once = quality(some[:1].repeat(400, 1, 1, 1), others)
    assert real.number == 400
    assert real.frechet.value < noise.frechet.value / 10 and real.frechet.value < once.frechet.value / 10
    assert once.recognised.value in (0, 1) and once.entropy.value == 0  # good to look at, every one of them
    assert real.entropy.value == pytest.approx(math.log(10), abs=0.03)
    assert real.precision.value > 0.8 and real.recall.value > 0.8
    assert noise.precision.value < 0.2 and noise.recall.value < 0.2
    assert once.precision.value in (0, 1) and once.recall.value < 0.1


def test_errors_are_those_of_repeated_measurements(digits, generator):
    """The bootstrap's error of a share agrees with sqrt(p (1 - p) / n)."""
    measured = quality(digits.x[:300], digits.x[300:], bootstrap=200).precision
    assert 0 < measured.value < 1
    assert measured.error == pytest.approx(math.sqrt(measured.value * (1 - measured.value) / 300), rel=0.25)


def test_quality_is_the_same_again_and_says_itself_in_words(digits):
    once, again = (quality(digits.x[:50], digits.x[50:200], bootstrap=5) for _ in range(2))
    assert once == again
    assert str(once).startswith(f"frechet {once.frechet.value:.3g} ± ") and str(once).endswith("from 50 samples")


def test_too_few_images_are_refused(digits):
    with pytest.raises(ValueError, match="samples must hold more than k = 3 images, got 3"):
        quality(digits.x[:3], digits.x)
    with pytest.raises(ValueError, match="real must hold more than k = 5 images, got 2"):
        quality(digits.x[:10], digits.x[:2], k=5)


def test_held_out_images_are_kept_apart_by_lot():
    images = torch.arange(10.0).reshape(10, 1, 1, 1)
    some, others = held_out(images, 4)
    assert sorted([*some.flatten().tolist(), *others.flatten().tolist()]) == list(range(10)) and len(some) == 4
    assert some.flatten().tolist() != [0, 1, 2, 3]
    with pytest.raises(ValueError, match="number must lie between 1 and 9, got 10"):
        held_out(images, 10)


def test_the_classifier_takes_images_of_one_shape():
    with pytest.raises(ValueError, match=r"^x must have shape \(B, 1, 28, 28\), got \(2, 1, 14, 14\)$"):
        Classifier()(torch.zeros(2, 1, 14, 14))


class Labelled:
    """A network whose predicted image is the label, or -1 where there is none."""

    target = "x0"

    def __call__(self, x_t, t, y=None):
        return x_t / 100 + (torch.full((len(x_t),), -1.0) if y is None else y.float()).reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("solver", SOLVERS)
def test_draw_takes_any_solver_and_the_noise_depends_on_seed_and_number_only(solver):
    schedule, network = Schedule.cosine(T=20), Labelled()
    drawn = draw_samples(network, schedule, 103, solver=solver, steps=4, seed=7)
    how = {"solver": solver, "steps": 4, "generator": 107}  # the second hundred
    *_, last = sample_with(network, schedule, initial_noise(7, 103)[100:], **how)
    torch.testing.assert_close(drawn[100:], last.x_t)
    torch.testing.assert_close(draw_samples(network, schedule, 5, solver=solver, steps=4, seed=7), drawn[:5])


def test_draw_refuses_what_there_is_not():
    with pytest.raises(
        ValueError, match=r"^eta must be 0 with solver \"dpm[+][+]\", for it belongs to \"ddim\", got 1"
    ):
        draw_samples(Labelled(), Schedule.cosine(T=20), 3, solver="dpm++", eta=1.0)
    with pytest.raises(ValueError, match=r"^solver must be one of .*, got 'euler'$"):
        draw_samples(Labelled(), Schedule.cosine(T=20), 3, solver="euler")


def test_draw_works_where_the_weights_are():
    class Elsewhere(torch.nn.Linear):
        """A network whose weights are on a device that holds no numbers."""

        target = "x0"

    with pytest.raises(ValueError, match=r"^x_T must be a dense tensor that holds numbers, got torch.strided on meta$"):
        draw_samples(Elsewhere(1, 1, device="meta"), Schedule.cosine(T=20), 3)


def test_draw_is_ddim_from_noise_that_depends_on_seed_and_number_only():
    schedule, network = Schedule.cosine(T=20), Labelled()
    drawn = draw_samples(network, schedule, 203, steps=4, seed=7)
    assert drawn.shape == (203, 1, 28, 28)
    *_, last = ddim_sample(network, schedule, initial_noise(7, 203), steps=4)
    torch.testing.assert_close(drawn, last.x_t)
    *_, usual = ddim_sample(network, schedule, initial_noise(7, 2), steps=20)  # as many as there are, up to 50
    torch.testing.assert_close(draw_samples(network, schedule, 2, seed=7), usual.x_t)
    torch.testing.assert_close(draw_samples(network, schedule, 5, steps=4, seed=7), drawn[:5])
    assert not torch.equal(draw_samples(network, schedule, 5, steps=4, seed=8), drawn[:5])


def test_draw_with_labels_asks_for_0_to_9_in_turn():
    drawn = draw_samples(Labelled(), Schedule.cosine(T=20), 123, steps=20, labels=True)
    assert drawn.mean(dim=(1, 2, 3)).round().tolist() == [i % 10 for i in range(123)]
    assert draw_samples(Labelled(), Schedule.cosine(T=20), 3, steps=20).mean() < -0.8


def test_draw_asks_for_the_labels_that_it_is_given():
    labels = torch.arange(105) * 7 % 4
    drawn = draw_samples(Labelled(), Schedule.cosine(T=20), 105, steps=20, labels=labels)
    assert drawn.mean(dim=(1, 2, 3)).round().tolist() == labels.tolist()
    guided = draw_samples(Labelled(), Schedule.cosine(T=20), 105, steps=20, labels=labels, guidance=2.0)
    assert guided.mean(dim=(1, 2, 3)).round().tolist() == (2 * labels + 1).tolist()
    with pytest.raises(Exception, match="labels"):
        draw_samples(Labelled(), Schedule.cosine(T=20), 104, steps=20, labels=labels)


def test_draw_with_guidance_goes_beyond_the_label():
    drawn = draw_samples(Labelled(), Schedule.cosine(T=20), 10, steps=20, labels=True, guidance=2.0)
    assert drawn.mean(dim=(1, 2, 3)).round().tolist() == [-1 + 2 * (y + 1) for y in range(10)]
    with pytest.raises(ValueError, match=r"guidance must be 1 without labels, which it leans towards, got 1\.5"):
        draw_samples(Labelled(), Schedule.cosine(T=20), 10, guidance=1.5)


def test_draw_with_clip_keeps_every_prediction_inside_the_box():
    schedule = Schedule.cosine(T=20)
    settings = {"steps": 20, "labels": True}
    assert draw_samples(Labelled(), schedule, 10, **settings).abs().amax() > 2
    assert draw_samples(Labelled(), schedule, 10, **settings, clip=True).abs().amax() <= 1


# -- scores of a whole sample set ---------------------------------------------------------------------------------------


def test_inception_score_is_the_mean_divergence_and_the_mutual_information():
    from scipy.special import rel_entr

    p = np.random.default_rng(0).dirichlet([0.3] * 7, 200)
    assert inception_score(p) == pytest.approx(math.exp(rel_entr(p, p.mean(0)).sum(1).mean()), rel=1e-12)
    entropy = -(p.mean(0) * np.log(p.mean(0))).sum() + (p * np.log(p)).sum(1).mean()  # H(y) - H(y|x)
    assert inception_score(p) == pytest.approx(math.exp(entropy), rel=1e-12)


def test_inception_score_is_1_where_all_are_alike_and_K_where_all_are_sure_and_even():
    assert inception_score(np.tile([0.2, 0.3, 0.5], (9, 1))) == pytest.approx(1)
    assert inception_score(np.eye(10)[[0, 1, 2, 3, 4, 5, 6, 7, 8, 9] * 3]) == pytest.approx(10)


def test_one_picture_a_class_has_a_better_inception_score_than_real_digits(digits):
    x, y = digits.x, digits.y
    _, said = features_and_probabilities(x)
    surest = [int(np.where(y == k, said[:, k], 0).argmax()) for k in range(10)]
    assert inception_score(said[surest * 20]) > inception_score(said) > 5


def test_frechet_infinity_takes_the_bias_of_few_samples_away():
    dice, d, values, raw = np.random.default_rng(0), 16, [], []
    real = normal_points(4000, [0.0] * d, np.eye(d))  # as good as exact
    for _ in range(6):
        a = dice.normal(size=(800, d))
        a[:, 0] += math.sqrt(0.5)
        found = frechet_infinity(a, real, parts=(4, 2, 1))
        values.append(found.value)
        raw.append(found.table[-1][1])
        assert [n for n, _ in found.table] == [200, 400, 800]
        assert found.table[-1][1] == pytest.approx(frechet_distance(a, real))
        expected = np.polyfit([1 / n for n, _ in found.table], [v for _, v in found.table], 1)
        assert [found.slope, found.value] == pytest.approx(expected, rel=1e-9)
    slope = d + d * (d + 1) / 4
    assert np.mean(raw) - 0.5 == pytest.approx(slope / 800, abs=0.05)
    assert abs(np.mean(values) - 0.5) < 0.05
    assert 0.3 < found.error / np.std(values, ddof=1) < 3


def test_the_error_of_frechet_infinity_is_that_of_a_jackknife():
    dice = np.random.default_rng(1)
    a, real = dice.normal(size=(160, 2)), dice.normal(size=(300, 2))

    def intercept(x: np.ndarray) -> float:
        halves = [frechet_distance(part, real) for part in (x[: len(x) // 2], x[len(x) // 2 :])]
        return 2 * frechet_distance(x, real) - np.mean(halves)  # two points, n and n/2

    x, left_out = a[np.random.default_rng(0).permutation(160)], np.arange(160) % 8
    values = [intercept(x[left_out != group]) for group in range(8)]
    found = frechet_infinity(a, real, parts=(1, 2), seed=0)
    assert found.value == pytest.approx(intercept(x), rel=1e-9)
    assert found.error == pytest.approx(math.sqrt(7) * np.std(values), rel=1e-9)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda a: frechet_infinity(a, a, seed=-1), "seed must be an integer >= 0, got -1"),
        (inception_score, "probabilities must be numbers >= 0 with the sum 1 for each image"),
        (
            lambda a: inception_score(a[:0]),
            r"probabilities must hold those of the labels of one or more images, \(N, K\)",
        ),
        (lambda a: frechet_infinity(a, a, parts=(2,)), "parts must be two or more different numbers >= 1"),
        (
            lambda a: frechet_infinity(a, a, parts=(1, 40)),
            "parts must be two or more different numbers >= 1 that leave two",
        ),
    ],
)
def test_scores_of_what_is_no_sample_set_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call(np.random.default_rng(0).normal(size=(40, 3)))
