import pytest
import sympy as sp
from sympy import sqrt

from diffnotes.book.proof.symbols import (
    abar,
    alpha,
    assumptions,
    beta,
    complete_square,
    eps,
    eps_1,
    eps_2,
    expectation,
    exponent,
    inside,
    mean_of,
    mu,
    normal,
    points,
    sigma,
    unit,
    variance_of,
    x_0,
    x_t,
)


def test_unit_gives_the_same_symbol_for_the_same_name():
    assert unit(r"\alpha_{t}") == alpha


def test_inside_knows_that_the_symbol_lies_in_the_unit_interval():
    assert inside(alpha).is_positive and sp.factor(inside(1 - alpha)).is_positive


def test_inside_gives_every_symbol_a_number_of_its_own():
    assert sp.simplify(inside(alpha) - inside(abar)) != 0


def test_inside_leaves_other_symbols_alone():
    assert inside(x_0**2 + eps) == x_0**2 + eps


@pytest.mark.parametrize("number", range(8))
def test_no_symbol_of_a_reader_is_taken_for_a_hidden_one(number):
    theirs = sp.Symbol(f"u_{number}", positive=True)
    assert theirs not in inside(alpha + abar).free_symbols


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        (alpha * abar, "α_t, ᾱ_t in (0, 1)"),
        (alpha * x_0 * x_t, "α_t in (0, 1), x_0, x_t real"),
        (sp.Symbol("p", positive=True), "p > 0"),
        (sp.Symbol("w", negative=True), "w < 0"),
        (sp.Symbol("q", nonnegative=True), "q ≥ 0"),
        (sp.Symbol("y", real=True, nonzero=True), "y ≠ 0"),
        (sp.Symbol("n", integer=True), "n integer"),
        (sp.Symbol("n", integer=True, positive=True), "n integer > 0"),
        (sp.Symbol(r"\tilde{\mu}_{i}", real=True), "μ̃_i real"),
        (sp.Symbol(r"\sigma_{t}^{2}", positive=True), "σ_t² > 0"),
        (sp.Symbol(r"\sigma^{2}", positive=True), "σ² > 0"),
        (sp.Symbol("z"), ""),
        (sp.Integer(1), ""),
    ],
)
def test_assumptions_in_words(expression, words):
    assert assumptions(expression) == words


def test_normal_is_a_density_with_that_mean_and_variance():
    variance = sp.Symbol("v", positive=True)
    x = sp.Symbol("x", real=True)
    moments = [sp.integrate(x**k * normal(x, x_0, variance), (x, -sp.oo, sp.oo)) for k in (0, 1, 2)]
    assert [sp.simplify(m) for m in moments] == [1, x_0, x_0**2 + variance]


def test_mean_of_a_sum_of_noises():
    assert mean_of(sqrt(alpha) * x_0 + sqrt(beta) * eps_1 + eps_2, eps_1, eps_2) == sqrt(alpha) * x_0


def test_variance_is_the_sum_of_the_squared_coefficients():
    assert sp.expand(variance_of(x_0 + sqrt(alpha) * eps_1 - 3 * eps_2, eps_1, eps_2)) == alpha + 9


def test_variance_of_one_letter_for_two_noises_is_another_one():
    assert sp.expand(variance_of(2 * eps + 3 * eps, eps)) == 25


def test_a_noise_named_twice_counts_once():
    assert variance_of(2 * eps, eps, eps) == 4


def test_variance_does_not_depend_on_what_is_given():
    assert variance_of(x_0 + 7, eps) == 0


@pytest.mark.parametrize("function", [mean_of, variance_of])
@pytest.mark.parametrize(
    "expression", [eps**2, eps_1 * eps, sp.Abs(eps), sp.exp(eps), 1 / eps, sqrt(eps**2), sp.sign(eps)]
)
def test_only_what_is_linear_in_the_noises_is_taken(function, expression):
    with pytest.raises(ValueError, match="expression must be linear in ε"):
        function(expression, eps, eps_1)


def test_completing_the_square_finds_mean_variance_and_rest():
    mean, variance, rest = complete_square(3 * exponent(x_0, mu, sigma**2) + 7, x_0)
    assert sp.simplify(mean - mu) == 0
    assert sp.simplify(variance - sigma**2 / 3) == 0
    assert sp.simplify(rest - 7) == 0


def test_only_a_parabola_has_a_square_to_complete():
    with pytest.raises(ValueError, match="parabola must be of degree 2 in x_0, got degree 1"):
        complete_square(x_0 + 1, x_0)


def test_expectations_are_integrals_against_the_density():
    assert sp.simplify(expectation(x_0**2, x_0, mu, sigma**2) - mu**2 - sigma**2) == 0


@pytest.mark.parametrize("known", ["positive", "negative", "nonnegative", "nonpositive", "integer"])
def test_points_keep_to_what_is_assumed(known):
    symbol = sp.Symbol("k", **{known: True})
    for values in points(symbol, number=20):
        number = sp.sympify(values[symbol])
        assert getattr(number, f"is_{known}")


def test_points_of_a_unit_symbol_lie_in_the_unit_interval():
    assert all(0 < values[alpha] < 1 for values in points(alpha, number=20))
