"""The exercises answer: right; wrong, with a case and the meaning of the mistake; not tried yet. They never get in the way."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import sympy as sp
import torch

from diffnotes.book import check, exercises
from diffnotes.book.exercises import (
    EXERCISES,
    chapter_12,
    chapter_13,
    chapter_14,
    chapter_15,
    chapter_17,
    chapter_19,
    chapter_21,
    chapter_22,
    chapter_90,
    progress,
)
from diffnotes.book.exercises.kinds import Break, Build, Derive, Predict, show
from diffnotes.book.press.scan import FOLDER, markdown_cells, tags
from diffnotes.book.proof.chapters import CHAPTERS, TAG
from diffnotes.book.proof.symbols import abar, abar_prev, abar_s, alpha, x_t
from diffnotes.models.autoregressive import MaskedConv2d
from diffnotes.models.coupling import LARGEST_SCALE, Coupling
from diffnotes.training.attributes import slant

BREAKS = {  # wrong values, each with words of the message that is meant for it
    "A.4": [
        ((0, 2, 0, 0.4), "brings you to about nine"),
        ((-2, 0.4, 2, 2), "exchange the two bells"),
        ((-2, 1, 2, 1), "With equal standard deviations"),
        ((0, 1.2, 1, 1), "Not ten times yet"),
    ],
    "10.2": [
        ((0.5, 0, 0.5), "not half of it yet"),
        ((1e-6, 1e-6, 1 - 2e-6), "As long as every state can be drawn"),
    ],
    "11.3": [
        (((1, 2, 2), (0, 2, 1)), "still the larger one"),
        (((0, 0, 0), (0, 0, 0)), "The two agree here"),
    ],
    "01.3": [(0.02, "warning is still there"), (0.2, "none at 0.01 less either")],
    "02.5": [(0, "A single image"), (0.5, "Smaller than β_t"), (1, "Just at the border")],
    "03.4": [
        (0.2, "its cost is less than 8 bits"),
        (0.07, "the direction in which it grows quickly"),
        (5, "grows as the logarithm only"),
    ],
    "04.5": [(900, "hides which of the hundred images"), (250, "not a hundred times")],
    "05.3": [((1, 7), "the rest is still to be seen"), ((1, 23), "points the other way"), ((1, 3), "points elsewhere")],
    "06.5": [
        ([(0, 0), (1, 0), (0, 1), (-1, 0), (0, -1)], "lie in the region of the real ones"),
        ([(10, 10), (11, 10), (10, 11), (11, 11), (12, 10)], "do not reach back"),
        ([(4, 0), (5, 0), (6, 0), (7, 0), (8, 0)], "A part of the real points"),
    ],
    "07.4": [(10, "lost too much as well"), (1000, "nearly alike")],
    "08.4": [((500, 499), "so short a stride"), ((41, 21), "not much room left"), ((1000, 0), "lands on the image")],
    "09.4": [(3, "Narrower, as in"), (1, "Here the two agree"), (0.02, "Too near")],
    "12.4": [((0.5, 500), "For s at most 1 it is a bound"), ((2, 2), "by less than a hundredth of a per cent")],
    "13.4": [
        ((3, 0.9, 0.1), "the training would see it"),
        ((5, 0.5, 0.4), "the divergence is at most one nat"),
        ((1, 0.5, 0.4), "The score error is too large, and the divergence too small"),
        ((4, 0.3, 0.3), "there is nothing to be seen"),
    ],
    "14.4": [
        ((lambda before, t, s: 2 * (t - before) / (s - t), [0, 1, 3]), "even on Karras' grid"),
        ((lambda before, t, s: 1, [0, 1, 3]), "With uneven steps it does"),
        ((lambda before, t, s: ((t - before) / (s - t)) ** 0.5, [0, 1, 3]), "With uneven steps it does"),
        ((lambda before, t, s: 1e-9, [0, 1, 3]), "even on Karras' grid"),
        ((lambda before, t, s: (t - before) / (s - t), [0, 1, 3]), "That is r itself"),
        ((lambda before, t, s: (s - t) / (t - before), [0, 1, 2]), "the other test does not either"),
    ],
    "15.4": [
        (([-3, -1, 1, 3], [0, 1, 2, 5]), "in the same order"),
        (([3, 1, -1, -3], [2, 1, 0, -1]), "in the same order"),
    ],
    "16.4": [
        (("gates", "mlp first"), "no factors of one product"),
        (("attention out", "mlp last"), "no factors of one product"),
    ],
    "17.4": [
        (([0, 1, 10, 11], [0, 11]), "From there it finds the best codebook"),
        (([0, 4, 6, 7], [0, 6]), "From there it finds the best codebook"),
        (([2, 2, 2, 2], [1, 5]), "From there it finds the best codebook"),
    ],
    "18.4": [
        ((0.3, 0.99), "The likelihood sees the base"),
        ((0.01, 0.5), "hardly any stranger than the data"),
        ((0.16, 0.9), "hardly any stranger than the data"),
    ],
    "19.4": [
        (([3, 2, 1], [1, 0, -1]), "The score selects candidate 1, which is not the worst one"),
        (([3, 2, 1], [-1, 0, 1]), "Two candidates share the highest score"),
    ],
    "20.4": [
        ([0.25, 0.25, 0.25, 0.25], "These two letters are independent"),
        ([0.06, 0.24, 0.14, 0.56], "These two letters are independent"),
        ([1, 0, 0, 0], "one sentence only"),
        ([0.3, 0.2, 0.2, 0.3], "too little for a tenth"),
    ],
    "21.4": [
        ([-1, -1, 0, 0, 1, 1], "The distance is not 0"),
        ([2, 1, 0, 0, -1, -2], "is one of the real numbers"),
        ([-1.5, -1.5, -1.5, 1.5, 1.5, 1.5], "The distance is not 0"),
    ],
    "22.4": [(0.1, "So clean a measurement"), (0.5, "So clean a measurement"), (1.5, "says little")],
}
JUNK = [
    "x",
    "",
    -0.5,
    True,
    10**400,
    float("nan"),
    object(),
    [],
    {},
    (77.5,),
    sp.Symbol("(77.5)"),
    (1, "2"),
    [[1], [2]],
    torch.ones(2, 3),
    torch.ones(1, dtype=torch.complex64),
    torch.tensor(float("inf")),
    np.array(["a"]),
    np.array([alpha, alpha]),
    sp.nan,
    sp.Eq(x_t, 1),
    sp.MatrixSymbol("M", 2, 2),
    sp.Function("f")(alpha),
    lambda: 0,
    lambda *given: "x",
    lambda *given: 1j,
    lambda *given: np.array(["a", "b"]),
    lambda *given: torch.ones(4, dtype=torch.complex64),
    lambda *given: (1, [2, 3]),
    lambda *given: given[0],
    len,
]


def of_kind(kind: type) -> list[str]:
    return [tag for tag, exercise in EXERCISES.items() if isinstance(exercise, kind)]


@pytest.fixture(autouse=True)
def shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[exercises.Shown]:
    """What is displayed; and what is solved is kept in a folder of the test's own."""
    found: list[exercises.Shown] = []
    monkeypatch.setenv("DIFFNOTES_PROGRESS", str(tmp_path / "progress"))
    monkeypatch.setattr(exercises, "display", found.append)
    return found


# -- wrong answers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "number"),
    [(tag, i) for tag in of_kind(Derive) + of_kind(Build) for i in range(len(EXERCISES[tag].mistakes))],
)
def test_a_typical_mistake_is_told_what_it_means_with_a_case(tag: str, number: int):
    mistake = EXERCISES[tag].mistakes[number]
    verdict = exercises.judge(tag, mistake.answer)
    assert (verdict.state, verdict.words) == ("wrong", mistake.means)
    case, mine, book = verdict.rows
    assert case[0] == "for" and mine[0].startswith("your ") and book[0].startswith("the book's") and mine[1] != book[1]


@pytest.mark.parametrize("tag", of_kind(Predict))
def test_one_option_is_right_and_each_other_is_told_why_not(tag: str):
    options = EXERCISES[tag].options
    verdicts = {letter: exercises.judge(tag, letter) for letter in options}
    right = [letter for letter, verdict in verdicts.items() if verdict.state == "right"]
    assert len(right) == 1 and verdicts[right[0]].rows
    for letter, verdict in verdicts.items():
        assert verdict.words == options[letter]
        assert letter in right or not verdict.rows  # the numbers would give it away
    assert exercises.judge(tag, f" ({right[0].upper()})").state == "right"


@pytest.mark.parametrize(("tag", "value", "words"), [(tag, *wrong) for tag, found in BREAKS.items() for wrong in found])
def test_a_value_that_does_not_break_it_gets_the_reason(tag: str, value: object, words: str):
    verdict = exercises.judge(tag, value)
    assert verdict.state == "wrong" and words in verdict.words and verdict.rows


def test_every_exercise_knows_at_least_two_wrong_answers():
    known = {tag: len(EXERCISES[tag].mistakes) for tag in of_kind(Derive) + of_kind(Build)}
    known |= {tag: len(EXERCISES[tag].options) - 1 for tag in of_kind(Predict)}
    known |= {tag: len(BREAKS[tag]) for tag in of_kind(Break)}
    assert known.keys() == EXERCISES.keys() and min(known.values()) >= 2


def test_an_unknown_mistake_gets_a_case_and_a_hint():
    verdict = exercises.judge("A.2", alpha)
    assert "for" in dict(verdict.rows) and "there is a hint below" in verdict.words


def test_the_case_shows_both_values_at_one_point():
    case, mine, book = (value for _, value in exercises.judge("A.2", abar).rows)
    at = {name: float(number) for name, number in re.findall(r"(\S+) = ([\d.]+)", case)}
    assert float(mine) == pytest.approx(at["ᾱ_t"], rel=1e-3)
    assert float(book) == pytest.approx((1 - at["α_t"]) * (1 - at["ᾱ_{t-1}"]) / (1 - at["ᾱ_t"]), rel=1e-2)


def test_of_a_large_table_the_entry_that_is_furthest_off_is_shown():
    def one_entry_off(q):
        table = q.joint.astype(float)
        table[1, 0, 1, 1] += 0.5
        return table

    _, (name, mine), (_, book) = exercises.judge("11.2", one_entry_off).rows
    assert name == "your function at [1, 0, 1, 1]" and float(mine) == pytest.approx(float(book) + 0.5)


# -- not tried yet ------------------------------------------------------------------------------------------------------


def not_written(*given):
    raise NotImplementedError


@pytest.mark.parametrize("tag", EXERCISES)
def test_an_exercise_that_was_not_tried_says_so_and_keeps_nothing(tag: str, shown):
    for answer in (
        None,
        ...,
        *([not_written, lambda *given: None, lambda *given: ...] if tag in of_kind(Build) else []),
    ):
        exercises.check(tag, answer)
    assert all(f"Exercise {tag.removeprefix('0')} · Not tried yet." in repr(message) for message in shown)
    assert not progress.file().exists()


# -- answers of the wrong kind ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", EXERCISES)
def test_no_answer_is_so_strange_that_it_raises(tag: str, shown):
    for answer in JUNK:
        exercises.check(tag, answer)
    assert [message for message in shown if not repr(message).startswith("✗ Exercise ")] == []


@pytest.mark.parametrize(
    ("tag", "answer", "expected", "given"),
    [
        ("A.1", 3, 'one of "a", "b", "c", "d".', "the number 3"),
        ("A.1", "e", "one of", "'e'"),
        ("A.2", "1 - alpha", "a sympy expression in α_t, ᾱ_t, ᾱ_{t-1}.", "'1 - alpha'"),
        ("A.2", alpha / 2.0, "sp.Rational(1, 2) for 0.5", "0.5*α_t"),
        ("A.2", alpha * abar_s, "written with α_t, ᾱ_t, ᾱ_{t-1}", "ᾱ_s"),
        ("A.2", alpha * sp.Symbol(r"\bar{\alpha}_{t}"), "even if its name is the same", "ᾱ_t"),
        ("A.4", (0, 3, 0, 1), "the standard deviations from 0.4 to 2", "(0, 3, 0, 1)"),
        ("A.5", 1, "a function of y, a tensor", "the number 1"),
        ("A.5", lambda y: y[:2], "an estimate for each entry", "an array of shape (2,)"),
        ("02.2", lambda sources: 1.0, "returns the mean and the variance", "the number 1"),
    ],
)
def test_an_answer_of_the_wrong_kind_is_told_what_was_expected(tag: str, answer: object, expected: str, given: str):
    verdict = exercises.judge(tag, answer)
    assert verdict.headline == "This cannot be checked as it stands." and expected in verdict.words
    assert given in dict(verdict.rows).values()


def test_an_error_in_the_readers_function_is_shown_with_the_readers_line():
    def rule(y):
        return y / int("zero")

    rows = dict(exercises.judge("A.5", rule).rows)
    assert rows["your function raised"] == "ValueError: invalid literal for int() with base 10: 'zero'"
    assert rows["in the line"] == 'return y / int("zero")'
    assert rows["called with"].startswith("y = [")


def test_a_function_of_other_arguments_is_told_so():
    assert "TypeError" in dict(exercises.judge("A.5", lambda: 0).rows)["your function raised"]


@pytest.mark.parametrize(
    ("tag", "near"),
    [("02.9", "02.1, 02.2, 02.3, 02.4, 02.5"), ("2.2", "02.2"), (2.2, "02.2"), ("", "01.1"), (None, "01.1")],
)
def test_an_unknown_number_lists_near_ones(tag: object, near: str):
    with pytest.raises(ValueError, match="tag must be the number of an exercise") as caught:
        exercises.check(tag, None)
    assert near in str(caught.value) and f"got {tag!r}" in str(caught.value)


# -- right answers in other forms ---------------------------------------------------------------------------------------


def test_a_derived_expression_may_be_written_in_any_form():
    answer = 1 / (1 / (1 - abar_prev) + alpha / (1 - alpha))
    assert exercises.judge("A.2", answer).headline == "Right, and sympy proves it."


def test_where_sympy_is_at_a_loss_numbers_decide(monkeypatch: pytest.MonkeyPatch):
    def at_a_loss(*given):
        raise check.NoVerdict

    monkeypatch.setattr(check, "identity", at_a_loss)
    right = (1 - alpha) * (1 - abar_prev) / (1 - abar)
    assert exercises.judge("A.2", right).headline == "Right: equal at 8 random points."
    assert exercises.judge("A.2", right + sp.Rational(1, 1000)).state == "wrong"


def test_a_function_may_work_in_place_and_in_float32():
    def in_place(y):
        return y.sign_().float()

    assert exercises.judge("A.5", in_place).state == "right"


def test_complex_numbers_are_not_cut_to_real_ones():
    assert exercises.judge("A.5", lambda y: torch.complex(torch.sign(y), y)).state == "wrong"


def test_what_needs_a_gradient_can_be_judged():
    assert exercises.judge("A.5", lambda y: y.requires_grad_() * 2).state == "wrong"


# -- likelihood ---------------------------------------------------------------------------------------------------------


def test_the_variance_of_a_stride_may_be_written_in_any_form():
    s_0 = chapter_12.s_0
    v_t, v_s = (bar * s_0**2 + 1 - bar for bar in (abar, abar_s))
    for answer in (
        (1 - abar / abar_s) * v_s / v_t,
        v_s - abar / abar_s * v_s**2 / v_t,  # Var(x_s) - Cov^2 / Var(x_t)
        (abar_s - abar) * v_s / (abar_s * v_t),
    ):
        assert exercises.judge("12.1", answer).state == "right"


def test_bits_per_dimension_may_be_computed_in_numpy():
    def by_numpy(log_density, dims, bin_width):
        return -np.log2(np.e) * log_density.numpy().mean(0) / dims - np.log2(bin_width)

    assert exercises.judge("12.3", by_numpy).state == "right"


def test_more_than_one_pair_breaks_the_bound():
    for answer in ((2, 500), (1.5, 300), (3, 20), [10, 900]):
        assert exercises.judge("12.4", answer).state == "right"


# -- scores: the irreducible loss, and the likelihood along the flow --------------------------------------------------------


def test_the_irreducible_loss_may_be_written_in_any_form():
    d, s_0, varsigma = chapter_13.d, chapter_13.s_0, chapter_13.varsigma
    for answer in (
        d / varsigma**2 - d / (s_0**2 + varsigma**2),
        d * s_0**2 / (varsigma**2 * (s_0**2 + varsigma**2)),
        d / (varsigma**2 + varsigma**4 / s_0**2),
    ):
        assert exercises.judge("13.1", answer).headline == "Right, and sympy proves it."


def by_the_jacobian(velocity, x, angles):
    total = torch.zeros(len(x)).double()
    for now, then in zip(angles[:-1], angles[1:], strict=True):
        slopes = torch.stack([torch.autograd.functional.jacobian(lambda p: velocity(p[None], now)[0], p) for p in x])  # noqa: B023
        total = total + (then - now) * slopes.diagonal(dim1=1, dim2=2).sum(1)
        x = x + (then - now) * velocity(x, now)
    return torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(1) + total


def test_the_log_density_may_be_written_in_another_way():
    assert exercises.judge("13.3", by_the_jacobian).state == "right"


def test_the_log_density_of_a_linear_flow_is_that_of_its_gaussian():
    """With many steps: velocity S'/S x for the standard deviation S = sqrt(cos^2/4 + sin^2) of data N(0, I/4)."""
    angles, x = torch.linspace(0, math.pi / 2, 4001).double(), torch.randn(5, 2).double()

    def velocity(x, phi):
        return 0.75 * phi.sin() * phi.cos() / (phi.cos() ** 2 / 4 + phi.sin() ** 2) * x

    exact = torch.distributions.Normal(0.0, 0.5).log_prob(x).sum(1)
    torch.testing.assert_close(chapter_13._log_density()(velocity, x, angles), exact, atol=5e-3, rtol=0)


@pytest.mark.parametrize("answer", [(4.5, 0.9, 0.1), np.array([5, 0.1, 0.9]), torch.tensor([5.0, 0.95, 0.1])])
def test_shares_that_the_training_does_not_see(answer):
    assert exercises.judge("13.4", answer).state == "right"


@pytest.mark.parametrize("answer", [(0, 0.5, 0.5), (4, 1, 0.5), (4, 0.5), (30, 0.5, 0.4)])
def test_shares_that_are_none_are_told_what_was_expected(answer):
    assert "three numbers (m, w, w')" in exercises.judge("13.4", answer).words


# -- fewer steps: the step of 2M, and what an order test does not see ---------------------------------------------------


def test_the_step_with_the_noise_frozen_may_be_written_in_any_form():
    a_t, b_t, a_s, b_s, h = (chapter_14.a_t, chapter_14.b_t, chapter_14.a_s, chapter_14.b_s, chapter_14.h)
    x, x_0_hat = chapter_14.x_t, chapter_14.x_0_hat
    eps_hat = (x - a_t * x_0_hat) / b_t
    for answer in (
        a_s / a_t * x - b_s * (sp.exp(h) - 1) * eps_hat,
        b_s / b_t * x + a_s * (1 - sp.exp(-h)) * x_0_hat,
        a_s * x_0_hat + b_s * eps_hat,
        a_s * x_0_hat + sp.sqrt(1 - a_s**2) * (x - a_t * x_0_hat) / sp.sqrt(1 - a_t**2),
    ):
        assert exercises.judge("14.1", answer).headline == "Right, and sympy proves it."


def test_a_frozen_v_is_another_method():
    """dx/dphi = v with a = cos(phi), b = sin(phi): straight in phi, where DDIM turns."""
    now, there, x, v = sp.symbols("now there x v", real=True)
    image, noise = sp.cos(now) * x - sp.sin(now) * v, sp.sin(now) * x + sp.cos(now) * v
    curve = sp.cos(there) * image + sp.sin(there) * noise
    turned = sp.cos(now - there) * x - sp.sin(now - there) * v
    assert sp.simplify(curve - turned) == 0 and sp.simplify(sp.diff(curve, there).subs(there, now) - v) == 0
    frozen = x - (now - there) * v
    assert abs((turned - frozen).subs({now: 1.2, there: 0.4, x: 1, v: 1})) > 0.05


def test_heun_with_ten_steps_is_nearest_but_not_within_ten_calls():
    off = {name: float(re.findall(r"\d\.\d+", value)[-1]) for name, value in exercises.judge("14.2", "c").rows}
    ddim, heun, two_m, heun_in_nine, two_m_in_nineteen = off.values()
    assert two_m_in_nineteen < heun < two_m < ddim < heun_in_nine
    assert list(off) == ["DDIM, 10 steps", "Heun, 10 steps", "2M, 10 steps", "Heun, 5 steps", "2M, 19 steps"]


def two_m_by_levels(x_t, x0_hat, x0_before, abar_before, abar_t, abar_s):
    before, now, there = (((1 - abar) / abar).sqrt() for abar in (abar_before, abar_t, abar_s))
    bracket = x0_hat
    if there > 0:
        bracket = x0_hat + 0.5 * (now / there).log() / (before / now).log() * (x0_hat - x0_before)
    return abar_s.sqrt() * (there / now * x_t / abar_t.sqrt() + (1 - there / now) * bracket)


def two_m_in_floats(x_t, x0_hat, x0_before, abar_before, abar_t, abar_s):
    if float(abar_s) == 1.0:
        return x0_hat.numpy()
    lam = [0.5 * math.log(float(abar) / (1 - float(abar))) for abar in (abar_before, abar_t, abar_s)]
    slope = (x0_hat - x0_before).numpy() / (lam[1] - lam[0])
    at_the_middle = x0_hat.numpy() + (lam[2] - lam[1]) / 2 * slope
    a, b = float(abar_s) ** 0.5, (1 - float(abar_s)) ** 0.5
    return b / (1 - float(abar_t)) ** 0.5 * x_t.numpy() + a * (1 - math.exp(lam[1] - lam[2])) * at_the_middle


def two_m_in_float32(x_t, x0_hat, x0_before, abar_before, abar_t, abar_s):
    now, there = (0.5 * torch.logit(abar) for abar in (abar_t, abar_s))
    share = torch.where(abar_s < 1, 0.5 * (there - now) / (now - 0.5 * torch.logit(abar_before)), 0)
    bracket = (1 + share) * x0_hat - share * x0_before
    return (((1 - abar_s) / (1 - abar_t)).sqrt() * x_t - abar_s.sqrt() * torch.expm1(now - there) * bracket).float()


@pytest.mark.parametrize("step", [two_m_by_levels, two_m_in_floats, two_m_in_float32])
def test_the_step_of_2m_may_be_written_in_any_form(step):
    assert exercises.judge("14.3", step).state == "right"


def test_the_step_of_2m_is_checked_on_straight_lines_with_uneven_steps_and_at_zero():
    cases = list(EXERCISES["14.3"].cases(torch.Generator().manual_seed(0)))
    for given, book in cases:
        bars = [given[name] for name in ("abar_before", "abar_t", "abar_s")]
        before, now, there = (0.5 * torch.logit(bar) for bar in bars)
        if bars[2] == 1:
            torch.testing.assert_close(book, given["x0_hat"])
            continue
        h, h_before = there - now, now - before
        assert max(h / h_before, h_before / h) > 1.2
        middle = given["x0_hat"] + (given["x0_hat"] - given["x0_before"]) / h_before * h / 2  # of the step, on the line
        a, b = bars[2].sqrt(), ((1 - bars[2]) / (1 - bars[1])).sqrt()
        torch.testing.assert_close(book, b * given["x_t"] + a * (1 - (-h).exp()) * middle)
    assert cases[-1][0]["abar_s"] == 1


@pytest.mark.parametrize(
    ("ratio", "case"),
    [
        (lambda before, t, s: (s - t) / (t - before), [0.0, 1.0, 3.0]),
        (lambda before, t, s: (s - t) / (t - before), (-1, 0.5, 0.75)),
        (lambda before, t, s: (np.exp(-before) - np.exp(-t)) / (np.exp(-t) - np.exp(-s)), np.array([0.0, 1.0, 2.0])),
        (lambda before, t, s: torch.tensor((s - t) / (t - before)), torch.tensor([0.0, 1.0, 3.0])),
    ],
)
def test_slips_that_an_order_test_does_not_see(ratio, case):
    verdict = exercises.judge("14.4", (ratio, case))
    assert verdict.state == "right"
    karras, uneven = (float(value) for name, value in verdict.rows if name.startswith("order"))
    assert karras == pytest.approx(2, abs=0.05) and uneven == pytest.approx(2, abs=0.05)


@pytest.mark.parametrize(
    "answer",
    [
        (lambda before, t, s: 0, [0, 1, 3]),
        (lambda before, t, s: 1 / (s - t - (t - before)), [0, 1, 2]),  # no number where the steps are even
        (lambda before, t: 1, [0, 1, 3]),
        (lambda before, t, s: None, [0, 1, 3]),
        (lambda before, t, s: 1, [3, 1, 0]),
        (lambda before, t, s: 1, [0, 1]),
        lambda before, t, s: 1,
    ],
)
def test_a_pair_that_cannot_be_tried_is_told_what_was_expected(answer):
    assert "a pair: a function of λ at t', t and s" in exercises.judge("14.4", answer).words


# -- flows: the velocity, a coupling layer, and lines that meet -----------------------------------------------------------


def test_the_velocity_may_be_written_in_any_form():
    x, v, a, b = chapter_15.x, chapter_15.v, chapter_15.a, chapter_15.b
    for answer in (
        (b * x + a * v) - (a * x - b * v),
        b * (x + v) - a * (x - v),
        (b - a) * x + sp.sqrt(1 + 2 * a * b) * v,
    ):
        assert exercises.judge("15.1", answer).state == "right"


def test_one_step_gives_the_mean_of_all_digits():
    verdict = exercises.judge("15.2", "c")
    assert verdict.state == "right" and all(float(value) < 1e-4 for _, value in verdict.rows)


def test_the_coupling_layer_is_that_of_the_package():
    for given, (points, log_det) in EXERCISES["15.3"].cases(torch.Generator().manual_seed(0)):

        class Network(torch.nn.Module):
            def __init__(self, scale, shift) -> None:
                super().__init__()
                self.scale, self.shift = scale, shift

            def forward(self, kept, y):
                s, m = self.scale(kept[:, :2]), self.shift(kept[:, :2])
                s = LARGEST_SCALE * torch.atanh(s / LARGEST_SCALE)
                nothing = torch.zeros_like(s)
                return torch.cat([nothing, s, nothing, m], dim=1)

        layer = Coupling(torch.tensor([True, True, False, False]), Network(given["scale"], given["shift"]))
        if given["inverse"]:
            torch.testing.assert_close(layer.inverse(given["x"]), points)
            torch.testing.assert_close(-layer(points)[1], log_det)
        else:
            torch.testing.assert_close(layer(given["x"]), (points, log_det))


@pytest.mark.parametrize(
    ("pairs", "velocity"),
    [
        (([0, 1, 2, 3], [1, 0, 2, 3]), "0"),
        (([-3, -1, 1, 3], [3, 1, -1, -3]), "0"),
        (([0, 1, 2, 9], [2, 1, 5, 0]), None),
    ],
)
def test_lines_that_meet_are_found_and_go_on_with_their_mean(pairs, velocity):
    verdict = exercises.judge("15.4", pairs)
    assert verdict.state == "right"
    rows = dict(verdict.rows)
    one = [float(u) for u in rows["the velocities of all lines there"].split(", ")]
    assert len(one) >= 2 and float(rows["the velocity of the flow there"]) == pytest.approx(
        sum(one) / len(one), abs=0.01
    )
    if velocity is not None:
        assert rows["the velocity of the flow there"] == velocity


@pytest.mark.parametrize(
    "answer", [([1, 2, 3], [1, 2, 3]), ([1, 1, 2, 3], [1, 2, 3, 4]), [1, 2, 3, 4], ([1, 2, 3, 4],)]
)
def test_pairs_that_cannot_be_tried_are_told_what_was_expected(answer):
    assert "a pair of lists of 4 numbers" in exercises.judge("15.4", answer).words


# -- codes: variances, masks, and k-means that stops -----------------------------------------------------------------------


def test_the_variance_of_the_means_and_that_of_a_code_add_up_to_one():
    lam, theta = chapter_17.lam, chapter_17.theta
    for answer in (1 - theta / lam, (lam - theta) / lam):
        assert exercises.judge("17.1", answer).state == "right"


def test_the_mask_is_that_of_the_package():
    for given, mask in EXERCISES["17.3"].cases(torch.Generator().manual_seed(0)):
        assert torch.equal(mask, MaskedConv2d(1, 1, given["size"], given["kind"]).mask)


@pytest.mark.parametrize("answer", [([0, 4, 6, 7], [2, 6.5]), ([0, 4, 6, 7], [6.5, 2]), ([0, 1, 10, 11], [100, 5])])
def test_k_means_stops_above_the_best(answer):
    verdict = exercises.judge("17.4", answer)
    rows = dict(verdict.rows)
    assert verdict.state == "right"
    assert float(rows["its summed squared distance"]) > float(rows["the smallest there is"])


def test_the_condition_of_the_second_stage_by_plain_torch():
    for given, wanted in EXERCISES["18.3"].cases(torch.Generator().manual_seed(0)):
        c = torch.nn.functional.avg_pool2d(given["x"], 2)
        a = given["alpha_bar"][given["s"]].view(-1, 1, 1, 1)
        noisy = a.sqrt() * c + (1 - a).sqrt() * given["eps"]
        torch.testing.assert_close(torch.nn.functional.interpolate(noisy, scale_factor=2.0), wanted)


@pytest.mark.parametrize("answer", [(0.16, 0.99), (0.17, 0.95)])
def test_a_gap_that_the_likelihood_does_not_see(answer):
    rows = list(dict(exercises.judge("18.4", answer).rows).values())
    assert exercises.judge("18.4", answer).state == "right"
    assert float(rows[1]) < float(rows[0]) < 0.2 and float(rows[2]) > 1


@pytest.mark.parametrize("answer", [([1, 2, 3], [1, 2]), ([1, 2, 3, 4], [1, 1]), ([1, 2, 3, 4],), "abcd"])
def test_starts_that_cannot_be_tried_are_told_what_was_expected(answer):
    assert "a pair of lists: 4 numbers" in exercises.judge("17.4", answer).words


# -- words and pictures: two pairs, captions that repeat, the slant, a score that selects --------------------------------


def test_the_loss_of_two_pairs_may_be_written_in_any_form():
    a, b, tau = chapter_19.a, chapter_19.b, chapter_19.tau
    for answer in (sp.log(1 + sp.exp((b - a) / tau)), sp.log(sp.exp(a / tau) + sp.exp(b / tau)) - a / tau):
        assert exercises.judge("19.1", answer).state == "right"


def test_repeated_captions_bound_the_loss_from_below():
    verdict = exercises.judge("19.2", "b")
    bound, loss, digits = (value for _, value in verdict.rows)
    assert verdict.state == "right" and bound == loss == "2.588 nats" and digits == "100% right"


def test_the_slant_is_that_of_the_package():
    for given, expected in EXERCISES["19.3"].cases(torch.Generator().manual_seed(0)):
        ink = given["ink"].clone()
        ink[ink < 0.1] = 0.0  # what the package takes for paper
        book = chapter_19._slant()(ink)
        torch.testing.assert_close(slant(2 * ink[:, None] - 1), book)
        assert expected.shape == book.shape


def test_an_unbiased_score_selects_the_worst():
    verdict = exercises.judge("19.4", ([3, 2, 1], [-2, -1, 3]))
    assert verdict.state == "right" and ("candidate 3", "quality 1, score 4") in verdict.rows
    assert "a pair of lists of 3 numbers" in exercises.judge("19.4", ([3, 2, 1], [1, 1, 1])).words


# -- applications: the replacement method, a null-space step, and where DPS is off ---------------------------------------


@pytest.mark.parametrize("repeats", [1, 2, 10])
def test_repaint_at_a_weak_correlation_is_what_the_recursion_tends_to(repeats):
    share = EXERCISES["22.1"].book().subs({chapter_22.r: repeats, chapter_22.rho: 1, chapter_22.y: 1})
    assert chapter_22.pasted.pasted(0.05, chapter_22.pasted.cosine(1000), repeats)[0] / 0.05 == pytest.approx(
        float(share), abs=2e-3
    )


def test_many_steps_end_at_a_third():
    verdict = exercises.judge("22.2", "c")
    assert verdict.state == "right" and float(verdict.rows[-1][1]) == pytest.approx(1 / 3, abs=1e-3)


def test_the_null_space_step_keeps_what_is_seen():
    for given, x_s in EXERCISES["22.3"].cases(torch.Generator().manual_seed(0)):
        if given["abar_s"] == 1:
            torch.testing.assert_close(given["seen"] * x_s, given["seen"] * given["known"])


def test_the_mean_of_dps_is_off_in_between_and_right_with_the_spread():
    assert exercises.judge("22.4", 0.6).state == "right"
    assert chapter_22._dps(0.5, spread=False) == pytest.approx((0.982, 0.119), abs=1e-3)
    for sigma in (0.1, 0.5, 1.0):
        assert chapter_22._dps(sigma, spread=True)[0] == pytest.approx(1 / (1 + sigma**2), abs=1e-6)


# -- what is shown ------------------------------------------------------------------------------------------------------


def test_the_message_is_html_and_plain_text_and_says_the_state_in_words(shown):
    exercises.check("A.2", sp.sqrt((1 - alpha) * (1 - abar_prev) / (1 - abar)))
    (message,) = shown
    assert repr(message).startswith("✗ Exercise A.2 · Not right yet.\n  for: α_t = ")
    assert "<b>✗ Exercise A.2 · Not right yet.</b>" in message._repr_html_()
    assert re.search('<th scope="row"[^>]*>your answer</th><td[^>]*><code>0.35', message._repr_html_())


def test_slips_and_equations_in_a_message_are_links(shown):
    exercises.check("A.2", sp.sqrt((1 - alpha) * (1 - abar_prev) / (1 - abar)))
    exercises.check("A.4", (-2, 1, 2, 1))
    exercises.check("A.1", "b")
    html = "".join(message._repr_html_() for message in shown)
    for link in ("91_errata_clinic.ipynb#A34", "#eq-A.15", "02_bayes_posterior.ipynb#eq-2.16"):
        assert f'<a href="{link}">' in html


def test_indices_are_set_low_and_names_in_code_are_left(shown):
    exercises.check("A.2", alpha / (1 - abar_s))
    exercises.check("10.3", 1)
    exercises.check("02.1", "d")
    html = "".join(message._repr_html_() for message in shown)
    for words in ("ᾱ<sub>t-1</sub>", "α<sub>t</sub>", "β̃<sub>1</sub> = 0", "of log_p and log_q"):
        assert words in html
    assert "_{" not in html


def test_what_a_reader_wrote_is_escaped(shown):
    exercises.check("A.1", "<script>")
    assert "<script>" not in shown[0]._repr_html_() and "&lt;script&gt;" in shown[0]._repr_html_()


def test_every_equation_and_slip_that_is_named_exists():
    equations = {tag for path in FOLDER.glob("*.ipynb") for _, tag in tags(path)}
    clinic = "".join(cell.source for _, cell in markdown_cells(FOLDER / f"{CHAPTERS[91]}.ipynb"))
    words = " ".join(
        [m.means for tag in of_kind(Derive) + of_kind(Build) for m in EXERCISES[tag].mistakes]
        + [EXERCISES[tag].right for tag in of_kind(Derive) + of_kind(Build)]
        + [reason for tag in of_kind(Predict) for reason in EXERCISES[tag].options.values()]
        + [exercises.judge(tag, value).words for tag, found in BREAKS.items() for value, _ in found]
    )
    assert set(re.findall(rf"\(({TAG})\)", words)) <= equations
    named = set(re.findall(r"\b([AP]\d\d)\b", words))
    assert named and [slip for slip in named if f'<a id="{slip}"></a>' not in clinic] == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (torch.tensor([1.0, -0.5]), "[1., -0.5]"),
        (torch.tensor([[0.123456789]]), "0.123457"),
        (torch.eye(2), "[[1., 0.], [0., 1.]]"),
        ([(0.5, 2)], "((0.5, 2))"),
        (abar_prev / 2, "ᾱ_{t-1}/2"),
    ],
)
def test_values_are_shown_short(value: object, text: str):
    assert show(value) == text


# -- what is kept -------------------------------------------------------------------------------------------------------


def test_what_is_solved_stays_solved(shown):
    for letter in ("a", "b", "c"):
        exercises.check("A.1", letter)
    exercises.check("A.5", len)
    assert progress.read() == {"A.1": "right", "A.5": "wrong"}
    assert [path.name for path in progress.file().parent.iterdir()] == ["exercises-2nd-edition.json"]
    assert "could not be kept" not in "".join(map(repr, shown))


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"A.1": {}, "A.2": "great"}', b"\xff\xfe", b"null"])
def test_a_broken_file_is_no_reason_to_fail(content: bytes, shown):
    progress.file().parent.mkdir(parents=True)
    progress.file().write_bytes(content)
    assert progress.read() == {}
    exercises.overview()
    exercises.check("A.1", "b")
    assert json.loads(progress.file().read_text()) == {"A.1": "right"}


def test_a_folder_that_cannot_be_written_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shown):
    (tmp_path / "a_file").touch()
    monkeypatch.setenv("DIFFNOTES_PROGRESS", str(tmp_path / "a_file"))
    exercises.check("A.1", "b")
    exercises.overview()
    assert "Right, it is (b)." in repr(shown[0]) and "Your progress could not be kept: " in repr(shown[0])
    assert str(tmp_path) not in repr(shown[0])


def test_an_interrupted_write_leaves_the_old_file(monkeypatch: pytest.MonkeyPatch):
    progress.keep("A.1", "right")

    def disk_full(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", disk_full)
    assert progress.keep("A.2", "right") == "No space left on device"
    assert progress.read() == {"A.1": "right"}
    assert [path.name for path in progress.file().parent.iterdir()] == ["exercises-2nd-edition.json"]


def test_without_the_variable_it_is_kept_in_the_users_data_folder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("DIFFNOTES_PROGRESS")
    monkeypatch.setattr("platformdirs.user_data_path", lambda name: Path("data") / name)
    assert progress.file() == Path("data/diffnotes/exercises-2nd-edition.json")


def test_the_overview_sorts_the_exercises_of_each_chapter(shown):
    exercises.check("A.1", "b")
    exercises.check("A.2", alpha)
    exercises.overview()
    table = shown[-1]
    assert repr(table).startswith(f"1 of {len(EXERCISES)} exercises solved.\n")
    first = "A · The Gaussian toolkit: ✓ solved A.1; ✗ tried, not solved yet A.2; ○ not tried yet A.3, A.4, A.5"
    assert first in repr(table)
    row = re.search(
        r"<tr>[^\n]*?90_gaussian_toolkit.*?</tr>", table._repr_html_()[table._repr_html_().index("90_g") - 90 :]
    )
    assert row and '>A.1</td><td style="text-align:left">A.2</td>' in row[0]
    assert 'href="90_gaussian_toolkit.ipynb#What-you-take-with-you"' in row[0]


def test_an_expression_that_is_off_by_very_little_is_wrong():
    right = chapter_90._best_standard_deviation()
    assert exercises.judge("A.3", right).state == "right"
    assert exercises.judge("A.3", right * (1 + sp.Rational(1, 10**8))).state == "wrong"


def test_a_share_that_is_covered_too_often():
    """Exercise 21.1 against the best of many classifiers on a table: 100 cells, c of them covered."""
    for covered in (25, 50, 80):
        p, q = np.full(100, 0.01), np.where(np.arange(100) < covered, 1 / covered, 0)
        D = np.linspace(0.001, 0.999, 999)[:, None]
        value = p * np.log(D) + q * np.log(1 - D)
        share = float(EXERCISES["21.1"].book().subs({chapter_21.c: sp.Rational(covered, 100)}))
        assert D[value[:, 0].argmax(), 0] == pytest.approx(share, abs=1e-3)


def test_the_gradient_of_r1_is_that_of_autograd():
    """Exercise 21.3: the book's own by hand against the trainer's penalty."""
    from diffnotes.training.adversarial_losses import gradient_penalty

    for given, book in EXERCISES["21.3"].cases(torch.Generator().manual_seed(0)):
        v = given["v"].clone().requires_grad_()
        penalty = gradient_penalty(lambda x, W=given["W"], v=v: torch.tanh(x @ W.T) @ v, given["x"])
        torch.testing.assert_close(torch.autograd.grad(penalty.mean(), v)[0], book)
