"""Does the line under an equation say what its check proves? Judged from the formula and the values that the check was given.

A tick without words stands for the whole equation. So a proof by sympy is refused as such

- if its symbols are numbered (x_1, x_2) where the formula does not number them so: then a size was fixed;
- if the formula holds for any size or any distribution (a sum up to T, a matrix, d coordinates, the expectation under q, the
  derivative of a network's output), and nothing in the claim stands for "any": no Sum, no matrix or function without
  entries, no index i, no symbol for the size itself or for a moment (see ANY).

case="..." has to be a size that the claim really has ("d = 2", "three values"), a value that the cell really puts in
("t = 1"), or words of CASES, each with a test. lemma="..." has to be a statement whose words stand in the text around the
cell, or in the cell; it must not be the name of something. What is right all the same stands in KNOWN, with the reason.
"""

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sympy as sp
import torch
from sympy.core.function import AppliedUndef

SYMBOLIC = ("identity", "inequality")
COUNTS = {
    w: n for n, w in enumerate(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"])
}


@dataclass
class Tick:
    """One check as it ran: its words, what it was given, and what stands around it."""

    latex: str  # the equation
    kind: str
    values: list[Any]  # both sides
    case: str = ""
    lemma: str = ""
    source: str = ""  # the cell
    text: str = ""  # the section's prose and code, the cell's own among it
    names: dict[str, Any] = field(default_factory=dict)  # what the cell's names stand for

    @property
    def atoms(self) -> list[sp.Basic]:
        return [part for value in _flat(self.values) if isinstance(value, sp.Basic) for part in [value]]

    @property
    def symbols(self) -> set[str]:
        return {str(symbol) for value in self.atoms for symbol in value.free_symbols}

    @property
    def formula(self) -> str:
        """The equation without what only dresses its letters."""
        plain = re.sub(
            r"\\(?:boldsymbol|mathbf|mathsf|operatorname|rm|sf)\b ?|\\[,;!]|\\(?:big|Big)[lr]?\b", "", self.latex
        )
        return re.sub(r"_\{(\w)\}", r"_\1", plain)


KNOWN = {  # a piece of the equation, and why the rule does not fit it
    r"\operatorname{Cov}(\mathbf x_s,\mathbf x_t|\mathbf x_0)": "given x_0, both are linear in two Gaussian noises",
    r"}_{B}{}^{\!\top}\mathbf x_{t-1}": "a square and a product, summed over coordinates that are alike",
}


def objections(tick: Tick) -> list[str]:
    """What is wrong with the words of a tick; an empty list if they are right."""
    if any(piece in tick.latex for piece in KNOWN):
        return []
    if tick.lemma:
        return list(filter(None, [_no_statement(tick)]))
    if tick.case:
        return [problem for part in tick.case.split(", ") if (problem := _no_case(tick, part))]
    if tick.kind not in SYMBOLIC or not tick.atoms:
        return []  # these lines say themselves that they are about a few numbers
    return [f"{problem}: say case= or lemma=" for problem in (_fixed_size(tick), *_only_an_example(tick)) if problem]


# -- no words: the whole equation ---------------------------------------------------------------------------------------


def families(tick: Tick) -> dict[str, set[str]]:
    """The numbered symbols of the claim, two or more of a letter, that the formula does not number: {"x": {"1", "2"}}."""
    found: dict[str, set[str]] = {}
    for name in tick.symbols:
        if match := re.fullmatch(r"(.*?[^\d_{])_?\{?(\d)(\d?)\}?", name):
            for digit in filter(None, (match[2], match[3])):
                if not re.search(rf"{re.escape(match[1])}_{digit}", tick.formula, re.IGNORECASE):
                    found.setdefault(match[1], set()).add(digit)
    return {letter: digits for letter, digits in found.items() if len(digits) > 1}


def _fixed_size(tick: Tick) -> str:
    found = families(tick)
    numbered = ", ".join(f"{letter}_{digit}" for letter, digits in sorted(found.items()) for digit in sorted(digits))
    return f"the claim has {numbered}, the formula does not" if found else ""


def has_index(tick: Tick) -> bool:
    """Whether a coordinate or a term of the claim has a letter for its number: x_i, x_{t;i}, x[i]."""
    return any(v.has(sp.Indexed) for v in tick.atoms) or any(
        re.search(r"_\{?(?:\w+[;|])*(?:[ijkln]|\\ell)(?:[;|]\w+)*\}?$", s) for s in tick.symbols
    )


def _has_matrix(tick: Tick) -> bool:
    matrices = [m for v in tick.atoms for m in v.atoms(sp.MatrixSymbol)]
    return any(not side.is_number for m in matrices for side in m.shape) or any(
        re.search(r"\\Sigma|\btr\b", s) for s in tick.symbols
    )


def _has_stand_in(tick: Tick) -> bool:
    """Whether a symbol is none of the formula's letters: then it stands for any density's value or slope."""
    return any(
        not re.search(rf"(?<![A-Za-z\\]){re.escape(s)}(?![A-Za-z])", re.sub(r"[{}]", "", tick.formula))
        for s in (re.sub(r"[{}]", "", name) for name in tick.symbols)
        if not s.startswith("\\")
    )


def _has_any_distribution(tick: Tick) -> bool:
    moment = any(re.search(r"\bE\[|\b(?:Var|Cov)\W", name) for name in tick.symbols)
    return moment or has_index(tick) or any(v.has(AppliedUndef, sp.Integral, sp.MatrixSymbol) for v in tick.atoms)


ANY: dict[str, Callable[[Tick], bool]] = {  # what in a formula stands for "any", and what in a claim does
    r"\\(?:sum|prod)(?![a-z])": lambda t: has_index(t) or any(v.has(sp.Sum, sp.Product) for v in t.atoms),
    r"\\top|\\sf T|\\operatorname\{tr\}|\|\\Sigma|\)\^\{1/2\}": lambda t: has_index(t) or _has_matrix(t),
    r"(?<![\\A-Za-z])(?<!frac\{)d(?![A-Za-z_}]|\\(?:bar|mathbf|varsigma|lambda))|\{d_": lambda t: (
        has_index(t) or "d" in t.symbols or _has_matrix(t)
    ),
    r"\\frac\{d": lambda t: any(v.has(AppliedUndef) for v in t.atoms),
    r"\\mathbb E|\\int|D_\{\\rm KL\}|\\mathsf [HI]\(|\\operatorname\{(?:Var|Cov)\}|\bI\(": _has_any_distribution,
    r"\\nabla(?:_\{?[^{}]*\}?)?\\log ?(?:\\big\[)?[pq](?:_\\\w+)?\([^)]*\)": lambda t: (
        _has_any_distribution(t) or _has_stand_in(t)
    ),
}
NORM = re.compile(r"\\\|")
GIVEN_DISTRIBUTION = re.compile(r"\\mathcal N")
OPEN_DISTRIBUTION = re.compile(r"(?<![a-z\\])[qp](?:_\\\w+)?\(|p_\{\\rm data\}|\\mathbf 1|f\\?[\(\']|[XY]")


def _only_an_example(tick: Tick) -> list[str]:
    formula = NORM.sub(" ", tick.latex).replace("d\\mathbf", "").replace("\\,dx", "")
    problems = []
    for pattern, stands in ANY.items():
        open_to_any = "mathbb E" in pattern
        if open_to_any and GIVEN_DISTRIBUTION.search(formula) and not OPEN_DISTRIBUTION.search(formula):
            continue  # the distribution is said in the formula
        match = re.search(pattern, formula)
        if match and "nabla" in match[0] and re.search(r"\|\\mathbf x_0\)$", match[0]):
            continue  # given x_0 it is the Gaussian of the forward process
        if match and not stands(tick):
            problems.append(f"the formula has {match[0]!r}, the claim only an example of it")
    return problems


# -- case: what was fixed -----------------------------------------------------------------------------------------------


def sizes(tick: Tick) -> set[int]:
    """The sizes that are found in the claim: of matrices, lists and arrays, and how many symbols are numbered alike."""
    found = {len(digits) for digits in families(tick).values()}
    used = (
        {node.id for node in ast.walk(ast.parse(tick.source)) if isinstance(node, ast.Name)} if tick.source else set()
    )
    for value in [*tick.values, *(tick.names[name] for name in sorted(used) if name in tick.names)]:
        if isinstance(value, sp.MatrixBase | np.ndarray | torch.Tensor):
            found |= set(value.shape)
        elif isinstance(value, list | tuple):
            found.add(len(value))
    return found


def _no_case(tick: Tick, words: str) -> str:
    if match := re.fullmatch(r"(\w+) = (\d+)", words):
        letter, number = match[1], int(match[2])
        of_vectors = letter == "d" and re.search(r"\\mathbf|\\boldsymbol", tick.latex)
        if not of_vectors and not re.search(rf"(?<![A-Za-z\\]){letter}(?![A-Za-z])|\\{letter}\b", tick.formula):
            return f"case {words!r}: the formula has no {letter}"
        if number not in sizes(tick) | _put_in(tick.source):
            there = f"the claim has sizes {sorted(sizes(tick))}, and the cell puts in {sorted(_put_in(tick.source))}"
            return f"case {words!r}: {there}"
        return "" if letter not in tick.symbols else f"case {words!r}: {letter} is any number in the claim"
    if (match := re.fullmatch(r"(\w+) (?:values|states|labels|points|steps|layers|numbers)", words)) and match[
        1
    ] in COUNTS:
        there = COUNTS[match[1]] in sizes(tick)
        return "" if there else f"case {words!r}: the claim has sizes {sorted(sizes(tick))}"
    if words not in CASES:
        return f"case {words!r}: not of the form 'd = 2' or 'three values', and not one of {sorted(CASES)}"
    return "" if CASES[words](tick) else f"case {words!r}: the claim, or the cell, is not of this kind"


def _put_in(source: str) -> set[int]:
    """The whole numbers that a cell puts in for symbols: in .subs(...), or as values of a dictionary."""
    found = set[int]()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "subs":
            found |= {
                c.value
                for arg in node.args
                for c in ast.walk(arg)
                if isinstance(c, ast.Constant) and type(c.value) is int
            }
        if isinstance(node, ast.Dict):
            found |= {c.value for c in node.values if isinstance(c, ast.Constant) and type(c.value) is int}
    return found


def _one_coordinate(tick: Tick) -> bool:
    has_vectors = re.search(r"\\mathbf|\\boldsymbol", tick.latex)
    fixed = families(tick) or any(isinstance(value, sp.MatrixBase) for value in tick.values)
    return bool(has_vectors) and not fixed and bool(tick.atoms)


def _calls(*names: str) -> Callable[[Tick], bool]:
    return lambda tick: bool(re.search(rf"\b(?:{'|'.join(names)})\b", tick.text))


CASES: dict[str, Callable[[Tick], bool]] = {
    "one coordinate": _one_coordinate,
    "one dimension": _one_coordinate,
    "one pixel": _one_coordinate,
    "Gaussian data": _calls("normal", "log_normal", "exponent", "expectation", "GaussianDenoiser", "Gaussian"),
    "data at +1 and -1": _calls("coin", "coins"),
    "polynomials of degree 4": lambda t: any(max(digits) == "4" for digits in families(t).values()),
}


# -- lemma: what was shown instead --------------------------------------------------------------------------------------


def _no_statement(tick: Tick) -> str:
    words = [word.lower() for word in re.findall(r"[^\W\d_]{4,}", tick.lemma)]
    if "$" in tick.lemma or "\\" in tick.lemma:
        return f"lemma {tick.lemma!r} is shown as plain text: no LaTeX"
    if len(tick.lemma.split()) < 3 or not words:
        return f"lemma {tick.lemma!r} is a label, not a statement"
    around = {word[:5] for word in re.findall(r"[^\W\d_]{4,}", f"{tick.text}\n{tick.source}".lower())}
    strange = [word for word in words if word[:5] not in around]
    if 2 * len(strange) > len(words):
        return f"lemma {tick.lemma!r}: the section and the cell do not speak of {', '.join(strange)}"
    return ""


def _flat(value: Any) -> list[Any]:
    if isinstance(value, list | tuple | sp.MatrixBase):
        return [entry for part in value for entry in _flat(part)]
    return [value]
