import html
import re
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import sympy as sp
import torch
from sympy import Rational, sqrt

from diffnotes.book import check
from diffnotes.book.proof.check import CheckFailed
from diffnotes.book.proof.symbols import abar, abar_prev, abar_s, alpha, beta, eps, unit, x_0, x_t
from diffnotes.process.forward import q_sample
from diffnotes.process.schedules import Schedule

y = sp.Symbol("y", real=True)
p = sp.Symbol("p", positive=True)
z = sp.Symbol("z")


@pytest.fixture(autouse=True)
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that the checks show."""
    lines: list[str] = []
    monkeypatch.setattr(check, "display", lambda line: lines.append(line.data))
    return lines


def refused(call: Callable[..., None], *args, **kwargs) -> str:
    """The message with which a check fails."""
    with pytest.raises(CheckFailed) as caught:
        call("1.3", *args, **kwargs)
    return str(caught.value)


# -- the line, and the message ----------------------------------------------------------------------------------------


def test_a_check_that_holds_shows_one_line_with_a_link_to_its_equation(shown):
    check.identity("1.12", x_0, x_0)
    assert len(shown) == 1 and '<a href="#eq-1.12">(1.12)</a>' in shown[0]


def test_a_check_that_fails_shows_nothing(shown):
    refused(check.identity, x_0, -x_0)
    assert shown == []


def test_the_line_names_what_is_assumed(shown):
    check.identity("1.3", sqrt(alpha) ** 2 * x_0, alpha * x_0)
    assert "proved by sympy, for α_t in (0, 1), x_0 real" in shown[0]


def test_the_line_names_the_code_that_was_checked(shown):
    check.definition("1.6", [1.0], [1.0], of=q_sample)
    assert "<code>process.forward.q_sample</code>" in shown[0]


def test_the_line_escapes_what_the_author_adds(shown):
    check.identity("1.3", x_0, x_0, assuming="s<t")
    assert "s&lt;t" in shown[0]


@pytest.mark.parametrize("tag", ["4", "4.", "a.b", "4.3.1", "(1.3)", ""])
@pytest.mark.parametrize(
    "call",
    [check.identity, check.inequality, check.definition, check.numeric, check.discrete],
    ids=lambda call: call.__name__,
)
def test_a_tag_is_chapter_dot_number(call, tag):
    with pytest.raises(ValueError, match=r"tag must be chapter\.number"):
        call(tag, 1, 2 if call is check.inequality else 1)


@pytest.mark.parametrize(
    ("call", "left", "right", "difference"),
    [
        (check.identity, x_0 * 2, x_0 * 5, "-3*x_0"),
        (check.inequality, 2 * p, p, "-p"),
        (check.inequality, [2.25], [1.75], "-0.5"),
        (check.definition, [2.25], [1.75], "0.5"),
        (check.numeric, [2.25], [1.75], "0.5"),
        (check.discrete, [Fraction(2, 7)], [Fraction(3, 7)], "1/7"),
    ],
)
def test_the_message_has_both_sides_and_their_difference(call, left, right, difference):
    message = refused(call, left, right)
    left, right = (str(side[0] if isinstance(side, list) else side).replace("x_{0}", "x_0") for side in (left, right))
    assert left in message.split("right:")[0] and right in message.split("right:")[1].split("difference:")[0]
    assert difference in message.split("difference:")[1]


def test_the_message_of_a_mean_has_both_sides_and_their_difference():
    message = refused(check.monte_carlo, np.r_[np.zeros(50), np.ones(50)], 2.25)
    assert "0.5" in message and "2.25" in message and "standard errors" in message.split("difference:")[1]


# -- identity ---------------------------------------------------------------------------------------------------------

posterior_variance = (1 - abar_prev) * beta / (1 - alpha * abar_prev)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (1 / (alpha / beta + 1 / (1 - abar_prev)), posterior_variance),
        (sqrt(alpha) * sqrt(abar_prev), sqrt(alpha * abar_prev)),
        (sqrt((1 - alpha) ** 2), 1 - alpha),
        (sp.Abs(1 - alpha), beta),
        (sp.log(alpha * abar_prev), sp.log(alpha) + sp.log(abar_prev)),
        (sqrt(y**2), sp.Abs(y)),
        ([x_0, x_t], (x_0, x_t)),
        (sp.Matrix([[alpha, 0], [0, beta]]), sp.Matrix([[1 - beta, 0], [0, 1 - alpha]])),
        (0, 0),
    ],
)
def test_identity_proves(left, right):
    check.identity("2.4", left, right)


WRONG = {
    "sign": (x_t - sqrt(abar) * x_0, x_t + sqrt(abar) * x_0),
    "factor": (posterior_variance, 2 * posterior_variance),
    "square root": (sqrt(posterior_variance), posterior_variance),
    "index": (posterior_variance, posterior_variance.subs(abar_prev, abar)),
    "another letter": (abar * x_0, abar_s * x_0),
    "one entry of several": ([x_0, x_t, x_0], [x_0, x_t, x_t]),
    "a zero entry": ([x_0, 0], [x_0, x_t]),
    "lists of different length": ([x_0, x_t], [x_0]),
    "a row for a column": (sp.Matrix([[x_0, x_t]]), sp.Matrix([x_0, x_t])),
    "equal at two points": (y**2, y),
    "equal at a thousand points": (sp.sin(sp.pi * y), 0),
    "equal everywhere but at 0": (sp.Piecewise((y, sp.Ne(y, 0)), (1, True)), y),
    "equal for y > 0": (sp.Piecewise((y, y > 0), (0, True)), y),
    "equal at 0 only": (sp.KroneckerDelta(y, 0), 0),
    "root of a square, any sign": (sqrt(x_0**2), x_0),
    "root of a square, complex": (sqrt(z**2), z),
    "root of a product, any signs": (sqrt(x_0 * y), sqrt(x_0) * sqrt(y)),
    "cube root of a cube": ((y**3) ** Rational(1, 3), y),
    "logarithm of a square, any sign": (sp.log(y**2), 2 * sp.log(y)),
    "logarithm, complex": (sp.log(sp.exp(z)), z),
    "inverse function, all branches": (sp.asin(sp.sin(y)), y),
    "sign, and its 0": (sp.sign(y) ** 2, 1),
    "below 1 only": (sp.Abs(1 - p), 1 - p),
    "above 1 only": (sp.Abs(1 - alpha), alpha - 1),
    "for s > t only": (sqrt((abar - abar_s) ** 2), abar - abar_s),
    "sum that may diverge": (sp.Sum(p ** sp.Symbol("k"), (sp.Symbol("k"), 0, sp.oo)).doit(), 1 / (1 - p)),
    "integral over a pole": (sp.Integral(1 / y**2, (y, -1, 1)).doit(), -2),
    "up to a remainder": (sp.sin(y), y + sp.O(y**3)),
    "not a number": (sp.nan, sp.nan),
    "infinite": (sp.oo, sp.oo),
    "division by zero": (y / sp.Integer(0), y / sp.Integer(0)),
    "the name of the hidden symbol": (alpha, 1 / (1 + sp.Symbol("u_0", positive=True))),
}


@pytest.mark.parametrize(("left", "right"), WRONG.values(), ids=WRONG.keys())
def test_identity_refuses(left, right):
    refused(check.identity, left, right)


def test_words_about_assumptions_prove_nothing():
    refused(check.identity, sqrt(x_0**2), x_0, assuming="x_0 > 0")


def test_identity_of_nothing_is_refused():
    with pytest.raises(ValueError, match="nothing to compare"):
        check.identity("1.3", [], [])


@pytest.mark.parametrize("right", [1 / (y + 1 + sp.Float(1e-17)), y * (1 + sp.Float(1e-17)), 0.5 * y])
def test_identity_refuses_decimal_numbers(right):
    with pytest.raises(ValueError, match="a proof needs exact numbers"):
        check.identity("1.3", right, right)


# -- inequality -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("smaller", "larger"),
    [
        (alpha, 1),
        (posterior_variance, beta),
        (0, p),
        (-1, y**2),
        ([1.0, 2.0], torch.tensor([1.5, 2.5])),
        (0, np.array([0.1, 0.2])),
    ],
)
def test_inequality_holds(smaller, larger):
    check.inequality("1.12", smaller, larger)


@pytest.mark.parametrize(
    ("smaller", "larger"),
    [
        (beta, posterior_variance),
        (p, 1),
        (0, y),
        (0, y**2),
        (x_0, x_0),
        (0, z * sp.conjugate(z) + 1),
        (0, sp.nan),
        ([1.0, 2.0], [1.5, 2.0]),
        ([1.0, 2.0], [1.5, float("nan")]),
        ([1.0, 2.0], [1.5, float("inf")]),
        ([0.0, 0.0, 0.0], [[1.0], [1.0], [1.0]]),
    ],
)
def test_inequality_refuses(smaller, larger):
    refused(check.inequality, smaller, larger)


@pytest.mark.parametrize(("smaller", "larger"), [(0, y**2), (x_0, x_0), ([1.0, 2.0], [1.0, 3.0])])
def test_at_most_allows_equality(smaller, larger):
    check.inequality("1.12", smaller, larger, strict=False)


@pytest.mark.parametrize(("smaller", "larger"), [(y**2, 0), (0, y), ([1.0, 2.0], [1.0, 1.9])])
def test_at_most_refuses_more(smaller, larger):
    refused(check.inequality, smaller, larger, strict=False)


def test_inequality_of_nothing_is_refused():
    with pytest.raises(ValueError, match="nothing to compare"):
        check.inequality("1.12", [], [])


def test_inequality_of_expressions_refuses_decimal_numbers():
    with pytest.raises(ValueError, match="a proof needs exact numbers"):
        check.inequality("1.12", alpha, 1 - sp.Float(1e-17))


# -- definition and numeric -------------------------------------------------------------------------------------------

schedule = Schedule.linear(T=1000)
table = 1 - schedule.alpha_bar[1:]
both = pytest.mark.parametrize("call", [check.definition, check.numeric], ids=["definition", "numeric"])


@both
@pytest.mark.parametrize("formula", [table, table.numpy(), table.tolist(), table * (1 + 1e-14)])
def test_numbers_that_agree(call, formula):
    call("1.6", table, formula)


@both
@pytest.mark.parametrize(
    "formula",
    [-table, 2 * table, table.sqrt(), table**2, table.roll(1), table + 1e-8, table[:-1], table[:, None], table[0]],
    ids=["sign", "factor", "root", "square", "index", "offset", "too short", "column", "number"],
)
def test_numbers_that_differ(call, formula):
    refused(call, table, formula)


@both
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("side", ["code", "formula", "both"])
def test_numbers_must_be_finite(call, bad, side):
    good = [1.0, 2.0]
    refused(call, [1.0, bad] if side != "formula" else good, [1.0, bad] if side != "code" else good)


@both
def test_numbers_of_nothing_are_refused(call):
    with pytest.raises(ValueError, match="nothing to compare"):
        call("1.6", [], [])


@both
@pytest.mark.parametrize("values", [np.array([1 + 2j]), torch.tensor([1 + 2j])], ids=["numpy", "torch"])
def test_complex_numbers_are_refused(call, values):
    with pytest.raises(ValueError, match="must be real"):
        call("1.6", values, values)


def test_the_tolerance_is_a_share_of_the_largest_entry():
    check.numeric("1.6", [1000.0, 0.5], [1000.0, 0.4], tol=1.1e-4)
    refused(check.numeric, [1000.0, 0.5], [1000.0, 0.4], tol=0.9e-4)


def test_against_zero_only_zero_will_do():
    check.definition("1.6", [0.0], [0.0])
    refused(check.definition, [1e-300], [0.0])


# -- monte_carlo ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("draws", [0, 1, 99])
def test_too_few_draws_are_refused(draws):
    with pytest.raises(ValueError, match=f"at least 100 draws along the first axis, got {draws}"):
        check.monte_carlo("1.1", np.zeros(draws), 0)


def test_one_number_is_not_a_sample():
    with pytest.raises(ValueError, match="at least 100 draws along the first axis, got 1"):
        check.monte_carlo("1.1", 0.7, 0.7)


def test_a_true_mean_raises_no_false_alarm():
    draws = np.random.default_rng(0).normal(3, 2, size=(400, 5000))
    check.monte_carlo("1.1", draws, 3.0)  # 5000 means in one go, each within 5 standard errors


def test_its_standard_errors_are_of_the_right_size():
    means = np.random.default_rng(1).normal(size=(400, 300)).T
    alarms = 0
    for sample in means:
        try:
            check.monte_carlo("1.1", sample, 0.0, sigmas=2.0)
        except CheckFailed:
            alarms += 1
    assert 3 <= alarms <= 27  # 4.6 per cent of 300 is 14, give or take 3.6


@pytest.mark.parametrize("factor", [0.99, 1.01])
def test_one_per_cent_is_seen_with_draws_enough(factor):
    draws = np.random.default_rng(2).normal(1, 0.3, size=100_000)
    check.monte_carlo("1.1", draws, 1.0)
    refused(check.monte_carlo, draws, factor)


def test_every_entry_of_a_mean_counts():
    draws = np.random.default_rng(3).normal(size=(10_000, 2))
    check.monte_carlo("1.1", draws, [0.0, 0.0])
    refused(check.monte_carlo, draws, [0.0, 0.2])


@pytest.mark.parametrize("value", [0.0, 0.1, 0.3, -0.7])
def test_draws_that_are_all_alike_must_be_what_is_expected(value):
    check.monte_carlo("1.1", np.full(1000, value), value)
    refused(check.monte_carlo, np.full(1000, value), value + 1e-9)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_draws_must_be_finite(bad):
    with np.errstate(invalid="ignore"):
        refused(check.monte_carlo, np.full(1000, bad), bad)


def test_a_mean_and_what_is_expected_have_one_shape():
    message = refused(check.monte_carlo, np.zeros((100, 2, 2)), [0.0, 0.0])
    assert "shapes (2, 2) and (2,)" in message


def test_a_mean_of_nothing_is_refused():
    with pytest.raises(ValueError, match="nothing to compare"):
        check.monte_carlo("1.1", np.zeros((100, 0)), 0.0)


# -- discrete ---------------------------------------------------------------------------------------------------------

step = [[Fraction(9, 10), Fraction(1, 10)], [Fraction(1, 5), Fraction(4, 5)]]
tiny = Fraction(1, 10**15)


def test_tables_of_fractions_that_are_equal():
    check.discrete("1.2", step, [[1 - q for q in row[::-1]] for row in step])


@pytest.mark.parametrize(
    "other",
    [
        [row[::-1] for row in step],
        step[::-1],
        [[2 * q for q in row] for row in step],
        [[-q for q in row] for row in step],
        [step[0], [step[1][0], step[1][1] + tiny]],
        step[0],
        [step, step],
    ],
    ids=["columns", "rows", "factor", "sign", "one part in 10^15", "one row", "two tables"],
)
def test_tables_of_fractions_that_differ(other):
    refused(check.discrete, step, other)


def test_tables_of_rationals_are_compared_exactly():
    refused(check.discrete, [Rational(1, 2)], [Rational(1, 2) + Rational(1, 10**15)])


def test_tables_of_floats_may_be_rounded():
    check.discrete("1.2", [[float(q) for q in row] for row in step], [[float(q + tiny) for q in row] for row in step])
    refused(check.discrete, [0.5], [0.5 + 1e-11])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_tables_must_be_finite(bad):
    refused(check.discrete, [1.0, bad], [1.0, bad])
    refused(check.discrete, [1.0, bad], [1.0, 5.0])


def test_tables_of_nothing_are_refused():
    with pytest.raises(ValueError, match="nothing to compare"):
        check.discrete("1.2", [], [])


def test_a_unit_symbol_of_a_reader_is_below_one():
    check.inequality("1.12", unit("my_share"), 1)
    check.identity("1.12", sp.Abs(1 - unit("my_share")) * eps, (1 - unit("my_share")) * eps)


# -- slips ----------------------------------------------------------------------------------------------------------------


def test_a_refused_slip_shows_both_sides(shown):
    with check.refuses("A22"):
        check.numeric("1.3", code=[1.0], formula=[2.0])
    assert "A22" in shown[0] and 'href="#A22"' in shown[0] and "left" in shown[0] and "✗" in shown[0]


def test_an_accepted_slip_fails():
    with pytest.raises(CheckFailed, match="A22: the wrong form was accepted"), check.refuses("A22"):
        check.numeric("1.3", code=[1.0], formula=[1.0])


def test_sides_of_different_shapes_refute_nothing():
    with pytest.raises(CheckFailed, match="shapes"), check.refuses("A22"):
        check.numeric("1.3", code=[1.0], formula=[1.0, 2.0])


def test_what_sympy_cannot_prove_is_not_refuted_by_that(monkeypatch):
    monkeypatch.setattr(check, "_reduced", lambda expression, patient=True: expression)  # sympy at a loss
    with pytest.raises(CheckFailed, match="could not be proved"), check.refuses("A22"):
        check.identity("1.3", (x_0 + 1) ** 2, x_0**2 + 2 * x_0 + 1)


@pytest.mark.parametrize(("smaller", "larger"), [(p, p / 2), (p, p)])
def test_a_false_inequality_is_told_from_one_that_is_not_proved(smaller, larger):
    assert "does not hold" in refused(check.inequality, smaller, larger)
    assert "could not be proved" in refused(check.inequality, 2 * p, p**2 + 1 + sp.exp(-p))


def test_a_false_identity_is_refuted_by_numbers(shown):
    with check.refuses("A22"):
        check.identity("1.3", sqrt(1 - abar), 1 - abar)
    assert "does not hold" in shown[0]


@pytest.mark.parametrize(("lhs", "rhs"), [(sp.oo, p), (p, -sp.oo)])
def test_what_is_infinite_is_not_a_number(lhs, rhs):
    assert "does not hold" in refused(check.identity, lhs, rhs)


def test_a_false_identity_is_not_factored_only_to_be_shown(monkeypatch):
    """How long sympy takes for that depends on the order of hashes: a refusal of (6.4) once took for ever."""
    left = (sqrt(abar) * x_0 + sqrt(1 - abar) * eps) ** 2 * (1 - abar)
    monkeypatch.setattr(check.symbols.sp, "together", None)  # what factoring begins with
    assert "does not hold" in refused(check.identity, left, left + abar * x_0 * eps)


def test_code_that_breaks_in_another_way_is_no_refutation():
    with pytest.raises(NameError), check.refuses("A42"):
        undefined  # noqa: B018  # type: ignore[name-defined]


def test_code_that_breaks_as_expected_is_one(shown):
    with check.refuses("A42", IndexError):
        torch.zeros(2)[2]
    assert "IndexError: index 2 is out of bounds" in shown[0]


def test_slips_have_a_letter_and_two_digits():
    with pytest.raises(ValueError, match="slip must be a letter and two or three digits, such as \"A22\", got 'A2'"):
        check.refuses("A2").__enter__()


def test_tables_of_a_chain_may_leave_out_variables(shown):
    check.discrete("2.1", np.ones((3, 1, 3)), np.ones((1, 3, 3)))
    assert "27 values" in shown[0]
    assert "difference" in refused(check.discrete, np.ones((3, 1)), np.array([[1.0, 1.0, 2.0]]))


def test_in_another_chapter_the_link_leads_to_the_equations_notebook(shown, monkeypatch):
    monkeypatch.setattr(check, "_HERE", [])
    check.chapter(91)
    check.identity("1.12", x_0, x_0)
    assert 'href="01_forward_process.ipynb#eq-1.12"' in shown[0]


# -- what a tick says ---------------------------------------------------------------------------------------------------


def words_of(line: str) -> str:
    """The line as a reader sees it."""
    return html.unescape(re.sub("<.*?>", "", line))


def test_the_line_says_of_which_case_it_is_true(shown):
    check.identity("A.2", x_0, x_0, case="d = 2")
    assert words_of(shown[0]) == "✓ (A.2) · proved by sympy for the case d = 2, for x_0 real"
    check.inequality("4.12", 1, 2, case="t = 1")
    assert words_of(shown[1]) == "✓ (4.12) · holds in the one case tried for the case t = 1, smallest gap 1"


def test_the_line_says_that_a_lemma_was_proved_and_which(shown):
    check.identity("8.12", x_0, x_0, lemma="exchange of two loads")
    assert words_of(shown[0]) == "✓ (8.12) · a lemma of it proved by sympy: exchange of two loads, for x_0 real"


@pytest.mark.parametrize(
    ("call", "values"),
    [
        (check.identity, (y, y)),
        (check.inequality, (0, p)),
        (check.inequality, ([0, 1], [1, 2])),
        (check.definition, ([1.0], [1.0])),
        (check.numeric, ([1.0], [1.0])),
        (check.monte_carlo, (torch.zeros(100), 0)),
        (check.discrete, ([1], [1])),
    ],
)
def test_every_kind_of_check_takes_a_case_or_a_lemma_but_not_both(shown, call, values):
    call("4.3", *values, case="n < m")
    call("4.3", *values, lemma="both sides agree")
    assert "for the case <em>n &lt; m</em>" in shown[0]
    assert "a lemma of it " in shown[1] and ": <em>both sides agree</em>" in shown[1]
    with pytest.raises(ValueError, match="of a case or of a lemma, got case='a' and lemma='b'"):
        call("4.3", *values, case="a", lemma="b")


def test_a_long_list_of_symbols_is_cut_short(shown):
    entries = sp.symbols("a_1:5_1:5", real=True)
    check.identity("A.4", sum(entries), sum(entries))
    assert "for the 16 symbols a_1_1, a_1_2, ..., a_4_4 real" in words_of(shown[0])


def test_equations_of_the_appendix_have_a_letter(shown):
    check.identity("A.3", x_0, x_0)
    assert '<a href="#eq-A.3">(A.3)</a>' in shown[0]
    with pytest.raises(ValueError, match=r'such as "4\.3" or "A\.3"'):
        check.identity("B.3", x_0, x_0)


def test_what_numbers_refute_is_refused_before_the_rest_is_proved(monkeypatch):
    patient_list, reduced = [], check._reduced
    monkeypatch.setattr(check, "_reduced", lambda e, patient: patient_list.append(patient) or reduced(e, patient))
    words = refused(check.identity, [sp.sin(p) ** 2 + sp.cos(p) ** 2, p], [1, 2 * p])
    assert "does not hold" in words and "left:       p\n" in words and patient_list == [False]
