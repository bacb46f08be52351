"""The rule for the words of a tick (ticks.py) refuses those that promise too much, and accepts honest ones."""

import nbformat
import pytest
import sympy as sp
import ticks
from book_files import formulas
from perturbed import probe_notebook
from sympy import log
from ticks import Tick, objections

from diffnotes.book.proof.symbols import abar, eps, mu, normal, sigma, sigma_1, sigma_2, unit, x_t

x_1, x_2, mu_1, mu_2, s = sp.symbols("x_1 x_2 mu_1 mu_2 s", real=True)
x_i, mu_i = sp.symbols(r"x_{i} \mu_{i}", real=True)
q, p = sp.symbols("q_1:4", positive=True), sp.symbols("p_1:4", positive=True)
d = sp.Symbol("d", positive=True)
k, t, rest = sp.symbols(r"k_{\ell} s_{\ell} r_{\ell}", positive=True)
network = sp.Function(r"\epsilon_{\theta}")

GRADIENT = (
    r"\nabla_{\mathbf x}\log\mathcal N(\mathbf x;\boldsymbol\mu,\sigma^2I)=-\frac{\mathbf x-\boldsymbol\mu}{\sigma^2}"
)
DENSITY = r"\mathcal N(\mathbf x)=(2\pi)^{-d/2}|\Sigma|^{-1/2}\exp(-\tfrac12\mathbf x^{\top}\Sigma^{-1}\mathbf x)"
AFFINE = r"\mathbf y\sim\mathcal N(A\mathbf m+\mathbf b,\;APA^\top+R)"
JENSEN = r"f\ \text{concave}:\qquad f\big(\mathbb E[X]\big)\ \ge\ \mathbb E\big[f(X)\big]"
CROSS = r"\mathbb E_q[-\log p]=\mathsf H(q)+D_{\rm KL}(q\,\|\,p)"
KL = r"D_{\rm KL}\big(\mathcal N(\mu_1,\sigma_1^2)\,\|\,\mathcal N(\mu_2,\sigma_2^2)\big)=\log\frac{\sigma_2}{\sigma_1}"
PATHS = r"p_\theta(\mathbf x_{0:T})=p(\mathbf x_T)\prod_{t=1}^Tp_\theta(\mathbf x_{t-1}|\mathbf x_t)"
FRECHET = r"d^2=\|\boldsymbol\mu_1-\boldsymbol\mu_2\|^2+\operatorname{tr}\big(\Sigma_1+\Sigma_2-2(\Sigma_1\Sigma_2)^{1/2}\big)"
SPREAD = r"\operatorname{Var}\big(\mathbb E[Y|\mathbf x_0,\mathbf x_t]\big)\le\operatorname{Var}(Y)"
ODE = r"\frac{d\bar{\mathbf x}}{d\varsigma}=\boldsymbol\epsilon_\theta\Big(\frac{\bar{\mathbf x}}{\sqrt{1+\varsigma^2}},\,t\Big)"
FIELD = r"n_0=1+\sum_{\ell=1}^m(k_\ell-1)\,s_1s_2\cdots s_{\ell-1}"
GUIDED = r"\nabla_{\mathbf x}\log q(\mathbf x_t|y)=\nabla_{\mathbf x}\log q(\mathbf x_t)+\nabla_{\mathbf x}\log q(y|\mathbf x_t)"
WEIGHT = r"w_t=\frac{\beta_t^2}{2\sigma_t^2\,\alpha_t(1-\bar\alpha_t)},\quad w_1=\frac1{2\alpha_1}"
LOSS = r"\|\mathbf x_0-\hat{\mathbf x}_\theta\|^2=\frac{1-\bar\alpha_t}{\bar\alpha_t}\|\epsilon-\epsilon_\theta\|^2"

MATRIX = sp.Matrix(2, 2, sp.symbols("a_11 a_12 a_21 a_22", real=True))
THREE = sum(-a * log(b) for a, b in zip(q, p, strict=True))


def tick(latex: str, *values, kind: str = "identity", **words) -> Tick:
    return Tick(latex, kind, list(values), **words)


@pytest.mark.parametrize(
    ("latex", "values"),
    [
        (GRADIENT, [[-(x_1 - mu_1) / s, -(x_2 - mu_2) / s]]),
        (DENSITY, [MATRIX.det() * x_1]),
        (AFFINE, [s * (MATRIX * MATRIX.T)[0]]),
        (JENSEN, [x_t - 1 - log(x_t), 0]),
        (CROSS, [THREE]),
        (PATHS, [eps]),
        (FRECHET, [(mu_1 - mu_2) ** 2 + sigma_1**2]),
        (SPREAD, [2 * mu**2]),
        (ODE, [x_t / sp.sqrt(1 + s**2)]),
        (FIELD, [1 + q[0] - 1 + q[1] * p[0]]),
        (FIELD, [1 + s * mu]),
        (GUIDED, [(x_t - abar) / (1 - abar)]),
    ],
)
def test_an_example_does_not_pass_for_the_whole_equation(latex, values):
    found = objections(tick(latex, *values))
    assert found and all("say case= or lemma=" in words for words in found)


@pytest.mark.parametrize(
    ("latex", "values"),
    [
        (GRADIENT, [-(x_i - mu_i) / s]),
        (DENSITY, [(2 * sp.pi) ** (-d / 2) * sp.Symbol(r"|\Sigma|", positive=True)]),
        (CROSS, [-sp.Symbol("q_{i}") * log(sp.Symbol("p_{i}"))]),
        (KL, [log(sigma_2 / sigma_1)]),
        (SPREAD, [sp.Symbol("E[Y^2]") - sp.Symbol("E[Y]") ** 2]),
        (ODE, [network(x_t / sp.sqrt(1 + s**2))]),
        (FIELD, [k + t * rest]),
        (PATHS, [sp.Product(sp.Symbol("p"), (s, 1, d))]),
        (GUIDED, [sp.Symbol("u'") / sp.Symbol("u")]),
        (LOSS, [(1 - abar) / abar * (eps - mu) ** 2]),
        (r"\mathcal N(x;\mu,\sigma^2)", [normal(x_1, mu, sigma**2)]),
    ],
)
def test_a_proof_of_the_whole_needs_no_words(latex, values):
    assert objections(tick(latex, *values)) == []


def test_lines_that_speak_of_numbers_need_no_words():
    assert objections(tick(PATHS, [0.5, 0.5], kind="discrete")) == []
    assert objections(tick(JENSEN, [0.5], [0.7], kind="inequality")) == []


@pytest.mark.parametrize(
    ("case", "latex", "values"),
    [
        ("d = 2", DENSITY, [MATRIX.det()]),
        ("d = 2", GRADIENT, [[-(x_1 - mu_1), -(x_2 - mu_2)]]),
        ("three values", CROSS, [THREE]),
        ("one coordinate", FRECHET, [(mu_1 - mu_2) ** 2]),
        ("m = 3", FIELD, [sum(q) + sum(p)]),
    ],
)
def test_a_case_that_the_claim_is(case, latex, values):
    assert objections(tick(latex, *values, case=case)) == []


@pytest.mark.parametrize(
    ("case", "latex", "values", "why"),
    [
        ("d = 3", DENSITY, [MATRIX.det()], "sizes"),
        ("d = 2", KL, [log(sigma_2)], "the formula has no d"),
        ("d = 2", DENSITY, [d * x_1 + x_2, MATRIX], "d is any number in the claim"),
        ("two values", CROSS, [THREE], "sizes"),
        ("T = 4", PATHS, [THREE], "sizes"),
        ("one coordinate", GRADIENT, [[-(x_1 - mu_1), -(x_2 - mu_2)]], "not of this kind"),
        ("one coordinate", KL, [log(sigma_2)], "not of this kind"),
        ("Gaussian data", CROSS, [THREE], "not of this kind"),
        ("a simple case", CROSS, [THREE], "not of the form"),
        ("d = 2, a simple case", DENSITY, [MATRIX.det()], "not of the form"),
    ],
)
def test_a_case_that_the_claim_is_not(case, latex, values, why):
    (words,) = objections(tick(latex, *values, case=case))
    assert why in words


def test_a_case_may_be_a_value_that_the_cell_puts_in():
    claim = unit("a") / 2
    source = "check.identity('4.12', weight.subs(abar_prev, 1), 1 / (2 * alpha), case='t = 1')"
    assert objections(tick(WEIGHT, claim, case="t = 1", source=source)) == []
    assert objections(tick(WEIGHT, claim, case="t = 2", source=source)) != []
    gaussian = "mean, variance, _ = complete_square(exponent(x_t, 0, 1), x_t)"
    assert objections(tick(ODE, claim, case="Gaussian data", source=gaussian, text=gaussian)) == []


def test_a_lemma_is_a_statement_that_the_text_makes():
    text = "Never parallel: of two loads, exchange the crossed ones and the cost falls. So the order is kept."
    honest = "exchange of two crossed loads lowers the cost"
    assert objections(tick(FRECHET, 2 * x_1, lemma=honest, text=text)) == []
    for lemma, why in (
        ("exchange", "a label"),
        ("the lemma", "a label"),
        (FRECHET, "no LaTeX"),
        ("covariance matrices commute under rotation", "do not speak of"),
    ):
        (words,) = objections(tick(FRECHET, 2 * x_1, lemma=lemma, text=text))
        assert why in words


def test_what_is_known_to_be_right_is_in_the_book_and_would_be_refused(monkeypatch):
    book = formulas().values()
    assert [piece for piece in ticks.KNOWN if not any(piece in latex for latex in book)] == []
    monkeypatch.setattr(ticks, "KNOWN", {})
    covariance, square = (next(f for f in book if piece in f) for piece in PIECES)
    assert objections(tick(covariance, abar)) and objections(tick(square, [abar, abar]))


PIECES = tuple(ticks.KNOWN)


def test_the_probe_sees_the_values_at_run_time(tmp_path):
    start = "import sympy as sp\nfrom diffnotes.book import check\nx = sp.symbols('x_1:3', real=True)"
    cells = [nbformat.v4.new_markdown_cell(rf"$$ {GRADIENT} \tag{{1.9}} $$"), nbformat.v4.new_code_cell(start)]
    cells += [
        nbformat.v4.new_code_cell(f"check.identity('1.9', list(x), [*x]{words})") for words in ("", ", case='d = 2'")
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "dishonest.ipynb")
    dishonest, honest = probe_notebook(tmp_path / "dishonest.ipynb")
    assert dishonest.objections == {"the claim has x_1, x_2, the formula does not: say case= or lemma="}
    assert honest.objections == set()
