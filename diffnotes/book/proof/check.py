"""Checks: every numbered equation of the book is verified in the cell under it, or the cell fails.

    check.identity("1.3", lhs, rhs)                    proved by sympy: the two sides are equal for all values allowed
    check.inequality("1.12", smaller, larger)          proved by sympy, or shown on all the numbers given
    check.definition("1.4", code=..., formula=...)     the package computes what the equation says
    check.numeric("1.14", code=..., formula=...)       two computations agree to rounding
    check.monte_carlo("1.1", samples, expected)        a mean of random draws agrees within 5 standard errors
    check.discrete("1.2", lhs, rhs)                    exact on a small chain with finitely many states

A check that holds prints one quiet line; one that does not raises CheckFailed with both sides and their difference.
The line means the whole equation, unless the check says which case of it was tried, or what was shown on the way to it:

    check.identity("A.2", lhs, rhs, case="d = 2")                         proved by sympy for the case d = 2
    check.identity("A.10", lhs, rhs, lemma="log u lies below its tangent")  a lemma of it proved by sympy: log u ...

    with check.refuses("A22"):                         a slip of the errata clinic: the check inside has to fail
        check.discrete("2.1", lhs, wrong)
"""

import cmath
import html
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import numpy as np
import sympy as sp
from IPython.display import HTML, display

from diffnotes.book.proof import symbols
from diffnotes.book.proof.chapters import TAG, address

_HERE: list[int] = []  # the chapter whose notebook this is, where it cites equations of others


class CheckFailed(AssertionError):
    """An equation of the book, or the code that should compute it, is wrong. The message shows both sides."""


class NoVerdict(CheckFailed):
    """The check fails, but nothing shows that the equation is false: the sides differ in shape, or sympy is at a loss."""


def identity(tag: str, lhs: Any, rhs: Any, assuming: str = "", case: str = "", lemma: str = "") -> None:
    """lhs = rhs for all values of the symbols that their assumptions allow: sympy reduces the difference to exactly 0.

    Both sides may be lists or matrices of expressions. `assuming` adds words to the line that is shown, and no more.
    case: the special case of the equation that the two sides are; lemma: what they state, if that is a step towards it.
    Decimal numbers are refused: sympy rounds them, and a proof must not."""
    left, right = _entries(lhs), _entries(rhs)
    if len(left) != len(right):
        raise NoVerdict(f"({_tag(tag)}) the two sides have {len(left)} and {len(right)} entries")
    if isinstance(lhs, sp.MatrixBase) and isinstance(rhs, sp.MatrixBase) and lhs.shape != rhs.shape:
        raise NoVerdict(f"({_tag(tag)}) the two sides have shapes {lhs.shape} and {rhs.shape}")
    if not left:
        raise ValueError(f"({_tag(tag)}) there is nothing to compare: both sides are empty")
    pairs = [(_differ_somewhere(a, b), a, b) for a, b in zip(left, right, strict=True)]
    for false, a, b in sorted(pairs, key=lambda pair: not pair[0]):  # first what needs no proof, for numbers refute it
        rest = _reduced(a - b, patient=not false)
        if rest != 0:
            raise _refusal(tag, false, a, b, f"reduces to {symbols.plain(symbols.outside(rest, factored=not false))}")
    _say(tag, "proved by sympy", _known(*left, *right, assuming=assuming), case, lemma)


def inequality(tag: str, smaller: Any, larger: Any, strict: bool = True, case: str = "", lemma: str = "") -> None:
    """smaller < larger (<= unless strict): sympy shows that the difference is positive, or, for numbers, every entry is."""
    if isinstance(smaller, sp.Basic) or isinstance(larger, sp.Basic):
        smaller, larger = _expression(smaller), _expression(larger)
        rest = sp.factor(_reduced(larger - smaller))
        if not (rest.is_positive if strict else rest.is_nonnegative):
            false = _gap_somewhere(smaller, larger, strict)
            raise _refusal(tag, false, smaller, larger, symbols.plain(symbols.outside(rest)))
        _say(tag, "proved by sympy", _known(smaller, larger), case, lemma)
        return
    smaller, larger = _arrays(tag, smaller, larger, scalars=True)
    gap = larger - smaller
    if not bool(np.all(gap > 0 if strict else gap >= 0)):
        difference = f"smallest gap {gap.min():.3g}"
        raise CheckFailed(_report(tag, "does not hold", _short(smaller), _short(larger), difference))
    _say(tag, f"holds in {_cases(gap.size)}", f", smallest gap {gap.min():.3g}", case, lemma)


def definition(
    tag: str,
    code: Any,
    formula: Any,
    tol: float = 1e-12,
    of: Callable[..., Any] | None = None,
    case: str = "",
    lemma: str = "",
) -> None:
    """What the package computes (code) is what the equation says (formula), to `tol` of the largest entry.

    of: the function, method or class that implements the definition, named in the line that is shown."""
    error, count = _agree(tag, code, formula, tol)
    where = f" in <code>{html.escape(_name(of))}</code>" if of is not None else ""
    _say(tag, f"is what the code computes{where}", _values_compared(count, error), case, lemma)


def numeric(tag: str, code: Any, formula: Any, tol: float = 1e-9, case: str = "", lemma: str = "") -> None:
    """Two computations agree: no entry differs by more than `tol` times the largest entry of the formula. Not a proof."""
    error, count = _agree(tag, code, formula, tol)
    _say(tag, "agrees in numbers", _values_compared(count, error), case, lemma)


def monte_carlo(tag: str, samples: Any, expected: Any, sigmas: float = 5.0, case: str = "", lemma: str = "") -> None:
    """The mean over the first axis of `samples` lies within `sigmas` standard errors of `expected`, in every entry."""
    samples = _array(samples)
    draws = len(samples) if samples.ndim else 1
    if draws < 100:
        raise ValueError(f"samples must hold at least 100 draws along the first axis, got {draws}")
    mean, standard_error = samples.mean(0), samples.std(0, ddof=1) / np.sqrt(draws)
    mean, expected = _arrays(tag, mean, expected, scalars=True)
    rounding = 1e-12 * np.abs(expected)  # draws that are all alike have no error but this one
    with np.errstate(divide="ignore", invalid="ignore"):
        off = np.where(np.abs(mean - expected) <= rounding, 0.0, np.abs(mean - expected) / standard_error)
    if not bool(np.all(off <= sigmas)):
        difference = f"{off.max():.3g} standard errors, more than {sigmas:g}"
        raise CheckFailed(_report(tag, "does not hold", _short(mean), _short(expected), difference))
    _say(tag, f"holds in {draws:,} random draws", f", off by {off.max():.1f} standard errors at most", case, lemma)


def discrete(tag: str, lhs: Any, rhs: Any, case: str = "", lemma: str = "") -> None:
    """Two tables over the states of a finite chain are equal: exactly if they hold fractions, else to 1e-12.

    An axis of length 1 stands for a variable that the table does not depend on (see chain.Distribution)."""
    left, right = np.asarray(lhs, dtype=object), np.asarray(rhs, dtype=object)
    if left.ndim == right.ndim and all(
        1 in pair or pair[0] == pair[1] for pair in zip(left.shape, right.shape, strict=True)
    ):
        left, right = np.broadcast_arrays(left, right)
    if left.shape != right.shape:
        raise NoVerdict(f"({_tag(tag)}) the two sides have shapes {left.shape} and {right.shape}")
    if left.size == 0:
        raise ValueError(f"({_tag(tag)}) there is nothing to compare: both sides are empty")
    exact = all(isinstance(v, Fraction | int | sp.Rational) for v in [*left.flat, *right.flat])
    differences = [abs(a - b) for a, b in zip(left.flat, right.flat, strict=True)]
    too_large = [d for d in differences if not d <= (0 if exact else 1e-12)]  # NaN is one too
    if too_large:
        largest = max(too_large)
        difference = f"up to {largest if exact else format(largest, '.3g')}"
        raise CheckFailed(_report(tag, "does not hold", _table(left), _table(right), difference))
    how = "exact" if exact else "holds to rounding"
    size = f", {left.size:,} value{'s' * (left.size != 1)}"
    _say(tag, f"{how} on a chain of finitely many states", size, case, lemma)


def chapter(number: int) -> None:
    """Say which chapter this notebook is, where it checks equations of others: then the links lead to their notebooks."""
    _HERE[:] = [number]


@contextmanager
def refuses(slip: str, *errors: type[Exception]) -> Iterator[None]:
    """The wrong form of a slip, run: the check inside has to fail, or, for code that breaks, to raise one of `errors`.

    If nothing fails, CheckFailed says that the slip was accepted. It must be shown to be false, by numbers: that sympy
    cannot prove it, or that the sides have different shapes, refutes nothing and fails as it stands."""
    if not re.fullmatch(r"[A-Z]\d{2,3}", slip):
        raise ValueError(f'slip must be a letter and two or three digits, such as "A22", got {slip!r}')
    try:
        yield
    except Exception as refusal:
        if isinstance(refusal, NoVerdict) or not isinstance(refusal, (CheckFailed, *errors)):
            raise
        if isinstance(refusal, CheckFailed):
            words = html.escape(str(refusal)).replace("\n", "<br>")
        else:
            words = html.escape(f"{type(refusal).__name__}: {str(refusal).splitlines()[0]}")
        line = f'<span style="color:#D55E00">✗</span> <a href="#{slip}">{slip}</a> · refused: {words}'
        _show(line)
    else:
        raise CheckFailed(f"{slip}: the wrong form was accepted")


# -- how it is done -----------------------------------------------------------------------------------------------------


def _reduced(expression: Any, patient: bool = True) -> sp.Expr:
    """The expression, as simple as sympy can make it, with numbers in (0, 1) written so that they are seen to be there.

    Not patient: only what is quick, for a difference that is known not to be 0."""
    expression = sp.sympify(expression)
    quick: list[Callable[[Any], Any]] = (
        [sp.expand, symbols.inside, sp.factor] if patient or _is_short(expression) else []
    )
    for rewrite in [lambda e: e, *quick, *([sp.simplify, sp.radsimp, sp.simplify] if patient else [])]:
        expression = rewrite(expression)
        if expression == 0:
            break
    return expression


def _differ_somewhere(a: sp.Expr, b: sp.Expr) -> bool:
    """Whether the two sides have different values at some point, far beyond rounding: then there is nothing to prove."""
    return a != b and any(
        (cmath.isinf(left) and cmath.isfinite(right))
        or (cmath.isfinite(left) and cmath.isinf(right))
        or abs(left - right) > 1e-6 * (abs(left) + abs(right))  # false for NaN
        for left, right in _values(a, b)
    )


def _gap_somewhere(smaller: sp.Expr, larger: sp.Expr, strict: bool) -> bool:
    """Whether smaller < larger (<= unless strict) is false at some point."""
    pairs = [(left.real, right.real) for left, right in _values(smaller, larger) if not (left.imag or right.imag)]
    return any(left > right or (strict and left == right) for left, right in pairs)


def _values(a: sp.Expr, b: sp.Expr) -> Iterator[tuple[complex, complex]]:
    """Both sides in numbers, at a few points that the assumptions allow; none where that would take long."""
    if sp.Add(a, b).has(sp.Integral, sp.Sum, sp.Derivative):
        return
    for values in symbols.points(a, b, number=2):
        try:
            yield complex(sp.N(a.subs(values), 30)), complex(sp.N(b.subs(values), 30))
        except (TypeError, ValueError, ArithmeticError):  # not a number there
            return


def _is_short(expression: sp.Expr) -> bool:
    return bool(sp.count_ops(expression) < 150)


def _refusal(tag: str, false: bool, left: sp.Expr, right: sp.Expr, difference: str) -> CheckFailed:
    sides = symbols.plain(left), symbols.plain(right)
    if false:
        return CheckFailed(_report(tag, "does not hold", *sides, difference))
    return NoVerdict(_report(tag, "could not be proved", *sides, difference))


def _entries(side: Any) -> list[sp.Expr]:
    return [_expression(e) for e in (side if isinstance(side, list | tuple | sp.MatrixBase) else [side])]


def _expression(value: Any) -> sp.Expr:
    expression = sp.sympify(value)
    if expression.has(sp.Float):
        raise ValueError(
            f"a proof needs exact numbers, such as Rational(1, 2) for 0.5, got {symbols.plain(expression)}"
        )
    return expression


def _known(*expressions: sp.Expr, assuming: str = "") -> str:
    known = ", ".join(filter(None, [symbols.assumptions(*expressions), assuming]))
    return f", for {known}" if known else ""


def _values_compared(count: int, error: float) -> str:
    return f": {count:,} value{'s' * (count != 1)}, largest difference {error:.1g}"


def _agree(tag: str, code: Any, formula: Any, tol: float) -> tuple[float, int]:
    code, formula = _arrays(tag, code, formula)
    scale = max(float(np.abs(formula).max()), 1e-300)
    error = float(np.abs(code - formula).max())
    if not error <= tol * scale:
        raise CheckFailed(_report(tag, "does not hold", _short(code), _short(formula), f"up to {error:.3g}"))
    return error, code.size


def _array(values: Any) -> np.ndarray:
    if hasattr(values, "detach"):  # a torch tensor
        values = values.detach().cpu()
        values = (values if values.is_complex() else values.double()).numpy()
    if np.iscomplexobj(values):
        raise ValueError("values must be real, got complex numbers")
    return np.asarray(values, dtype=np.float64)


def _arrays(tag: str, left: Any, right: Any, scalars: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Both sides as finite arrays of one shape; with `scalars`, one side may be a single number."""
    left, right = _array(left), _array(right)
    if left.shape != right.shape and not (scalars and () in (left.shape, right.shape)):
        raise NoVerdict(f"({_tag(tag)}) the two sides have shapes {left.shape} and {right.shape}")
    if left.size == 0 or right.size == 0:
        raise ValueError(f"({_tag(tag)}) there is nothing to compare: a side is empty")
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        raise CheckFailed(_report(tag, "has entries that are not finite", _short(left), _short(right), "not finite"))
    return left, right


def _cases(number: int) -> str:
    return "the one case tried" if number == 1 else f"all {number:,} cases tried"


def _report(tag: str, verdict: str, left: str, right: str, difference: str) -> str:
    return f"({_tag(tag)}) {verdict}.\n  left:       {left}\n  right:      {right}\n  difference: {difference}"


def _short(values: Any) -> str:
    """On one line: an array of two and more dimensions in a row."""
    array = _array(values)
    return np.array2string(array.ravel() if array.ndim > 1 else array, precision=6, threshold=8, edgeitems=3)


def _table(values: np.ndarray, most: int = 6) -> str:
    """The first entries of a table, fractions as fractions."""
    entries = [str(v) if isinstance(v, Fraction | int | sp.Basic) else f"{float(v):.6g}" for v in values.flat[:most]]
    return ", ".join(entries) + (f", ... ({values.size} values)" if values.size > most else "")


def _name(of: Callable[..., Any]) -> str:
    return f"{of.__module__.removeprefix('diffnotes.')}.{of.__qualname__}"


def _tag(tag: str) -> str:
    if not re.fullmatch(TAG, tag):
        raise ValueError(f'tag must be chapter.number, such as "4.3" or "A.3", got {tag!r}')
    return tag


def _say(tag: str, how: str, details: str, case: str, lemma: str) -> None:
    """The line: how the equation was checked, of which case or lemma of it that is true, and how closely."""
    if case and lemma:
        raise ValueError(f"({_tag(tag)}) a check is of a case or of a lemma, got case={case!r} and lemma={lemma!r}")
    of = f" for the case <em>{html.escape(case)}</em>" if case else f": <em>{html.escape(lemma)}</em>" if lemma else ""
    words = f"{'a lemma of it ' * bool(lemma)}{how}{of}{html.escape(details)}"
    line = f'<span style="color:#009E73">✓</span> <a href="{address(_tag(tag), *_HERE)}">({tag})</a> · {words}'
    _show(line)


def _show(line: str) -> None:
    """A line below the cell, small, and in the quieter colour of JupyterLab's light or dark theme, where there is one."""
    display(HTML(f'<div style="font-size:90%;color:var(--jp-ui-font-color2,inherit)">{line}</div>'))
