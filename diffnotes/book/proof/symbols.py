"""The book's symbols for sympy, with what is known about them, and a few words of its algebra.

This module is the independent oracle: it uses nothing of the package's torch code, and must not.
"""

import random
import re
from typing import Any

import sympy as sp
from sympy import Expr, Symbol

_IN_UNIT_INTERVAL: dict[Symbol, Symbol] = {}


def unit(name: str) -> Symbol:
    """A symbol for a number in (0, 1), such as alpha_t, beta_t or alpha-bar_t; its name is its LaTeX.

    sympy can be told "positive" but not "below one". So a proof puts 1 / (1 + u), u > 0, in its place (see `inside`):
    every number in (0, 1) is of that form, and then sympy can see that 1 - alpha is positive too."""
    symbol = sp.Symbol(name, positive=True)
    _IN_UNIT_INTERVAL.setdefault(symbol, sp.Dummy(f"u_{len(_IN_UNIT_INTERVAL)}", positive=True))  # no one else's u_0
    return symbol


def inside(expression: Expr) -> Expr:
    """The expression with every `unit` symbol a written as 1 / (1 + u), u > 0."""
    expression = sp.sympify(expression)
    return expression.subs({a: 1 / (1 + u) for a, u in _IN_UNIT_INTERVAL.items() if a in expression.free_symbols})


def outside(expression: Expr, factored: bool = True) -> Expr:
    """The inverse of `inside`: every u written as 1 / a - 1 again, so that a reader knows the symbols. Factoring the result
    makes it shorter, and can take for ever."""
    back = {u: 1 / a - 1 for a, u in _IN_UNIT_INTERVAL.items() if u in expression.free_symbols}
    expression = expression.subs(back)
    return sp.factor(sp.together(expression)) if back and factored else expression


def points(*expressions: Expr, number: int = 5) -> list[dict[Symbol, Any]]:
    """A few choices of numbers for the free symbols, each within what is assumed of it; always the same ones."""
    dice = random.Random(0)
    free = sorted(set().union(*(sp.sympify(e).free_symbols for e in expressions)), key=str)

    def value(symbol: Symbol) -> Any:
        if symbol in _IN_UNIT_INTERVAL:
            return dice.uniform(0.05, 0.95)
        if symbol.is_integer:
            size: Any = dice.randint(1, 9)
        else:
            size = dice.uniform(0.1, 3)
        if symbol.is_nonpositive:
            return -size
        return size if symbol.is_nonnegative or symbol.is_integer else dice.uniform(-2, 2)

    return [{symbol: value(symbol) for symbol in free} for _ in range(number if free else 1)]


def assumptions(*expressions: Expr) -> str:
    """What is assumed of the free symbols, in words for the line under a proof."""
    groups: dict[str, list[str]] = {"in (0, 1)": [], "> 0": [], "real": []}  # in this order, and others after them
    for symbol in sorted(set().union(*(sp.sympify(e).free_symbols for e in expressions)), key=str):
        groups.setdefault(_known(symbol), []).append(plain(symbol))
    return ", ".join(f"{_listed(names)} {known}" for known, names in groups.items() if names and known)


def _listed(names: list[str]) -> str:
    return (
        ", ".join(names) if len(names) <= 12 else f"the {len(names)} symbols {names[0]}, {names[1]}, ..., {names[-1]}"
    )


def _known(symbol: Symbol) -> str:
    if symbol in _IN_UNIT_INTERVAL:
        return "in (0, 1)"
    signs = {"positive": "> 0", "negative": "< 0", "nonnegative": "≥ 0", "nonpositive": "≤ 0", "nonzero": "≠ 0"}
    sign = next((words for name, words in signs.items() if symbol.assumptions0.get(name)), "")
    field = "integer" if symbol.is_integer else "real" if symbol.is_real and not sign else ""
    return " ".join(filter(None, [field, sign]))


def plain(expression: Expr) -> str:
    """A symbol or an expression as text: its LaTeX with the Greek letters themselves, such as "ᾱ_{t-1}" or "2*x_t"."""
    name = sp.sstr(expression).replace(r"\bar{\alpha}", "ᾱ").replace(r"\tilde{\beta}", "β̃").replace(r"\hat{x}", "x̂")
    name = name.replace(r"\hat{\epsilon}", "ε̂").replace(r"\hat{v}", "v̂")
    name = name.replace(r"\tilde{\mu}", "μ̃")
    name = re.sub(r"\\(\w+?)(?=_|\W|$)", lambda m: GREEK.get(m[1], m[1]), name)
    return re.sub(r"_\{(.)\}", r"_\1", name).replace("^{2}", "²")


GREEK = {
    "alpha": "α",
    "beta": "β",
    "gamma": "γ",
    "delta": "δ",
    "ell": "ℓ",
    "lambda": "λ",
    "Sigma": "Σ",
    "epsilon": "ε",
    "eta": "η",
    "nu": "ν",
    "omega": "ω",
    "varnothing": "∅",
    "theta": "θ",
    "varsigma": "ς",
    "mu": "μ",
    "sigma": "σ",
    "rho": "ρ",
    "phi": "φ",
    "varphi": "φ",
    "chi": "χ",
}

x_0, x_prev, x_t = sp.symbols("x_{0} x_{t-1} x_{t}", real=True)
eps, eps_1, eps_2 = sp.symbols(r"\epsilon \epsilon_{1} \epsilon_{2}", real=True)
alpha, alpha_prev = unit(r"\alpha_{t}"), unit(r"\alpha_{t-1}")
beta = 1 - alpha
mu, mu_1, mu_2 = sp.symbols(r"\mu \mu_{1} \mu_{2}", real=True)
sigma, sigma_1, sigma_2 = sp.symbols(r"\sigma \sigma_{1} \sigma_{2}", positive=True)
abar, abar_prev, abar_s = unit(r"\bar{\alpha}_{t}"), unit(r"\bar{\alpha}_{t-1}"), unit(r"\bar{\alpha}_{s}")


def normal(x: Expr, mean: Expr, variance: Expr) -> Expr:
    """The density N(x; mean, variance); the second slot is the variance, always."""
    return sp.exp(-((x - mean) ** 2) / (2 * variance)) / sp.sqrt(2 * sp.pi * variance)


def exponent(x: Expr, mean: Expr, variance: Expr) -> Expr:
    """-2 log N(x; mean, variance) without its constant: the parabola (x - mean)^2 / variance."""
    return (x - mean) ** 2 / variance


def complete_square(parabola: Expr, x: Symbol) -> tuple[Expr, Expr, Expr]:
    """(mean, variance, rest) with parabola = (x - mean)^2 / variance + rest, where rest is free of x.

    The parabola A x^2 - 2 B x + C has variance 1 / A, mean B / A and rest C - B^2 / A (book, eq. A.6)."""
    coefficients = sp.Poly(sp.expand(parabola), x).all_coeffs()
    if len(coefficients) != 3:
        raise ValueError(f"parabola must be of degree 2 in {plain(x)}, got degree {len(coefficients) - 1}")
    A, minus_2B, C = coefficients
    return -minus_2B / (2 * A), 1 / A, C - minus_2B**2 / (4 * A)


def expectation(f: Expr, x: Symbol, mean: Expr, variance: Expr) -> Expr:
    """E[f(x)] for x ~ N(mean, variance), by integrating over the real line; give the symbols their signs."""
    return sp.integrate(f * normal(x, mean, variance), (x, -sp.oo, sp.oo))


def mean_of(expression: Expr, *noises: Symbol) -> Expr:
    """The mean of an expression that is linear in independent standard normal symbols: put zero for each of them."""
    _coefficients(expression, noises)
    return sp.expand(expression).subs(dict.fromkeys(noises, 0))


def variance_of(expression: Expr, *noises: Symbol) -> Expr:
    """Its variance: the sum of the squared coefficients. ValueError if the expression is not linear in the noises."""
    return sp.Add(*(c**2 for c in _coefficients(expression, noises)))


def _coefficients(expression: Expr, noises: tuple[Symbol, ...]) -> list[Expr]:
    expression = sp.expand(expression)
    coefficients = [sp.diff(expression, noise) for noise in dict.fromkeys(noises)]
    if any(c.has(*noises) for c in coefficients):
        raise ValueError(f"expression must be linear in {', '.join(map(plain, noises))}, got {expression}")
    return coefficients
