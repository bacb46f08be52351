"""The four kinds of exercise, and how an answer to each is judged.

    Derive     an expression in the book's symbols; refuted at a random point, or proved by check.identity
    Predict    one of a few options, chosen before anything is run; which one is right, is then measured
    Build      a function; it has to give what the book's own gives, in float64, on random cases
    Break      a value that breaks something; it is tried

Nothing is compared with a stored text. Beside each exercise stand the wrong answers that readers typically give and what
each of them means: an answer that equals one of them gets its explanation, and the tests hold that it does.
"""

import linecache
import re
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal, Protocol

import numpy as np
import sympy as sp
import torch
from IPython.utils.capture import capture_output

from diffnotes.book.proof import check, symbols
from diffnotes.book.proof.chain import Distribution

State = Literal["right", "wrong", "untried"]
Rows = tuple[tuple[str, str], ...]
POINTS = 8  # at which two expressions are compared in numbers
MOST = 8  # entries of an array that are shown
TOLERANCE = 1e-6  # of the largest entry; wrong formulas are off by far more, a constant in float32 by less
ROUNDING = 1e-10  # of the value of an expression, which is exact


@dataclass(frozen=True)
class Verdict:
    """What is said about an answer: a headline, what it means, and the numbers behind it, each with its name."""

    state: State
    headline: str
    words: str = ""
    rows: Rows = ()


@dataclass(frozen=True)
class Mistake:
    """A wrong answer that readers typically give, and what it means."""

    answer: Any
    means: str


class Exercise(Protocol):
    """Anything that can judge an answer."""

    def judge(self, answer: Any) -> Verdict:
        """What to say about the answer; never raises because of it."""


@dataclass(frozen=True)
class Derive:
    """An expression to be derived: `book` gives the book's own, `variables` are the symbols that it may contain.

    given: what the task says of some of the symbols, such as {abar: alpha * abar_prev}; it is put into both sides."""

    book: Callable[[], sp.Expr]
    variables: tuple[sp.Symbol, ...]
    right: str
    mistakes: tuple[Mistake, ...]
    given: Mapping[sp.Symbol, sp.Expr] = field(default_factory=dict)

    def judge(self, answer: Any) -> Verdict:
        """Right if answer and book agree at random points; check.identity then proves it, if it can."""
        names = ", ".join(map(symbols.plain, self.variables))
        if _is_missing(answer):
            return _untried("Write your expression in the place of None, and run the cell again.")
        if isinstance(answer, bool) or not isinstance(answer, sp.Expr | int | float | Fraction):
            return _unsuited(f"a sympy expression in {names}", answer)
        answer = sp.sympify(answer)
        if answer.has(sp.Float):
            return _unsuited("exact, since sympy is to prove it: write sp.Rational(1, 2) for 0.5", answer)
        if strangers := sorted(answer.free_symbols - {*self.variables}, key=str):
            expected = (
                f"written with {names}; a symbol of your own is another one for sympy, even if its name is the same"
            )
            return _unsuited(expected, answer, (("it also contains", ", ".join(map(symbols.plain, strangers))),))
        mine, book = (expression.subs(self.given) for expression in (answer, sp.sympify(self.book())))
        case = _difference(mine, book, self.given)
        if not case:
            try:
                with capture_output():  # the line under a check links to an equation, and this is none
                    check.identity("0.0", mine, book)
            except check.NoVerdict:  # sympy is at a loss
                return Verdict("right", f"Right: equal at {POINTS} random points.", self.right)
            return Verdict("right", "Right, and sympy proves it.", self.right)
        for mistake in self.mistakes:
            if not _difference(mine, sp.sympify(mistake.answer).subs(self.given)):
                return Verdict("wrong", WRONG, mistake.means, case)
        return Verdict("wrong", WRONG, UNKNOWN, case)


@dataclass(frozen=True)
class Predict:
    """A choice to be made before running: each option with the reason why it is, or would be, right or wrong.

    measure() finds out with the book's own code which option is right, and gives the numbers that show it."""

    options: Mapping[str, str]
    measure: Callable[[], tuple[str, Rows]]

    def judge(self, answer: Any) -> Verdict:
        """Right if it is the option that was measured; the numbers are kept back until then."""
        letters = ", ".join(f'"{letter}"' for letter in self.options)
        if _is_missing(answer):
            return _untried(
                f"Choose one of {letters} and put it in the place of None. Nothing is lost by a wrong choice."
            )
        letter = answer.strip().strip("()").lower() if isinstance(answer, str) else answer
        if not isinstance(letter, str) or letter not in self.options:
            return _unsuited(f"one of {letters}", answer)
        measured, rows = self.measure()
        if letter == measured:
            return Verdict("right", f"Right, it is ({letter}).", self.options[letter], rows)
        return Verdict("wrong", f"It is not ({letter}).", self.options[letter])


@dataclass(frozen=True)
class Build:
    """A function to be written. cases(generator) yields random arguments by name, each with the book's own result."""

    expects: str
    cases: Callable[[torch.Generator], Iterable[tuple[dict[str, Any], Any]]]
    right: str
    mistakes: tuple[Mistake, ...]

    def judge(self, answer: Any) -> Verdict:
        """Right if the function gives what the book gives in every case, to TOLERANCE of the largest number."""
        if _is_missing(answer):
            return _untried("Write the function, and run the cell again.")
        if not callable(answer):
            return _unsuited(self.expects, answer)
        cases = list(self.cases(torch.Generator().manual_seed(0)))
        results: list[list[np.ndarray]] = []
        wrong: Rows = ()
        for arguments, book in cases:
            try:
                result = answer(*_copies(arguments))
            except NotImplementedError:
                return _untried("Write the body of the function in the place of its last line, and run the cell again.")
            except Exception as error:
                return _raised(answer, error, arguments)
            if _is_missing(result):
                return _untried("The function returns nothing yet: write its body, with a return at the end.")
            mine, theirs = _numbers(result), _numbers(book)
            if mine is None or [a.shape for a in mine] != [b.shape for b in theirs or []]:
                returned = (("your function returned", _kind(result)), ("the book's", _kind(book)))
                return _unsuited(self.expects, answer, (("for", _case(arguments)), *returned))
            results.append(mine)
            if not wrong and not _agree(mine, theirs):
                wrong = (("for", _case(arguments)), *_side_by_side(result, book))
        if not wrong:
            return Verdict("right", f"Right, in all of {len(cases)} random cases.", self.right)
        for mistake in self.mistakes:
            same = (_numbers(mistake.answer(*_copies(arguments))) for arguments, _ in cases)
            if all(_agree(*pair) for pair in zip(results, same, strict=True)):
                return Verdict("wrong", WRONG, mistake.means, wrong)
        return Verdict("wrong", WRONG, UNKNOWN, wrong)


@dataclass(frozen=True)
class Break:
    """A value to be found. accept() makes it usable or raises, if it is not what `expects` says; attempt() tries it, and
    tells whether it does the thing, what that means, and the numbers."""

    expects: str
    accept: Callable[[Any], Any]
    attempt: Callable[[Any], tuple[bool, str, Rows]]

    def judge(self, answer: Any) -> Verdict:
        """Right if the attempt with this value succeeds."""
        if _is_missing(answer):
            return _untried("Put your value in the place of None, and run the cell again: it will be tried.")
        try:
            value = self.accept(answer)
        except Exception:
            return _unsuited(self.expects, answer)
        broken, words, rows = self.attempt(value)
        if broken:
            return Verdict("right", "Right: it was tried.", words, rows)
        return Verdict("wrong", WRONG, words, rows)


def numbers(answer: Any, count: int) -> list[float]:
    """The answer as `count` finite numbers; TypeError or ValueError if it is something else."""
    found = [float(value) for value in answer if not isinstance(value, str | bool)]
    if len(found) != count or not np.isfinite(found).all():
        raise ValueError(f"answer must be {count} finite numbers, got {answer}")
    return found


def show(value: Any) -> str:
    """A value in a few characters, for the rows of a verdict."""
    if isinstance(value, Distribution):
        return f"a random chain {', '.join(value.names)} with {value.joint.shape[0]} states"
    if isinstance(value, torch.Tensor | np.ndarray):
        found = _numbers(value)
        if found is None:
            return f"an array of {value.dtype}"
        (array,) = found
        if array.size == 1:
            return f"{array.item():.6g}"
        written = np.array2string(array, precision=4, threshold=MOST, edgeitems=2, separator=", ")
        return re.sub(r"(?<=\[) +| +(?=[,\]])", "", " ".join(written.split()))
    if isinstance(value, list | tuple):
        return f"({', '.join(map(show, value))})"
    if isinstance(value, sp.Basic):
        return symbols.plain(value)
    return f"{float(value):.6g}" if isinstance(value, float | Fraction | np.floating) else str(value)


# -- what is said -------------------------------------------------------------------------------------------------------

WRONG = "Not right yet."
UNKNOWN = "The case above shows where it differs from the book. If you are stuck, there is a hint below."


def _untried(words: str) -> Verdict:
    return Verdict("untried", "Not tried yet.", words)


def _unsuited(expected: str, answer: Any, rows: Rows = ()) -> Verdict:
    """What the reader wrote stands in the rows: in the words, (2.4) is a link."""
    rows = rows or (("you gave", _kind(answer)),)
    return Verdict("wrong", "This cannot be checked as it stands.", f"The answer should be {expected}.", rows)


def _raised(function: Any, error: Exception, arguments: Mapping[str, Any]) -> Verdict:
    """The reader's own error, with the reader's own line."""
    code = getattr(function, "__code__", None)
    steps = [
        s for s in traceback.extract_tb(error.__traceback__) if code is not None and s.filename == code.co_filename
    ]
    line = linecache.getline(steps[-1].filename, steps[-1].lineno or 0).strip() if steps else ""
    rows = {
        "your function raised": f"{type(error).__name__}: {error}",
        "in the line": line,
        "called with": _case(arguments),
    }
    return Verdict("wrong", WRONG, "Mend it and run the cell again.", tuple(row for row in rows.items() if row[1]))


def _case(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {show(value)}" for name, value in arguments.items())


def _kind(value: Any) -> str:
    """What a thing is, for a reader who expected another."""
    if isinstance(value, torch.Tensor | np.ndarray) and tuple(value.shape):
        return f"an array of shape {tuple(value.shape)}"
    if isinstance(value, list | tuple | sp.Basic | torch.Tensor | np.ndarray) and len(show(value)) < 60:
        return show(value)
    if isinstance(value, bool | str):
        return f"{value!r}"
    if isinstance(value, int | float | Fraction | np.number):
        return f"the number {show(value)}"
    return "a function" if callable(value) else f"something of type {type(value).__name__}"


# -- how answers are compared -------------------------------------------------------------------------------------------


def _is_missing(answer: Any) -> bool:
    return answer is None or answer is Ellipsis


def _difference(mine: sp.Expr, other: sp.Expr, given: Mapping[sp.Symbol, sp.Expr] | None = None) -> Rows:
    """A point at which two expressions have different values, or one of them none; nothing if they agree everywhere."""
    for values in symbols.points(mine, other, number=POINTS):
        left, right = (_value(expression, values) for expression in (mine, other))
        if left is None or right is None or not abs(left - right) <= ROUNDING * max(abs(left), abs(right)):
            shown = values | {symbol: expression.subs(values) for symbol, expression in (given or {}).items()}
            case = ", ".join(f"{symbols.plain(symbol)} = {float(value):.4g}" for symbol, value in shown.items())
            return (("for", case or "every case"), ("your answer", _written(left)), ("the book's", _written(right)))
    return ()


def _value(expression: sp.Expr, values: Mapping[sp.Symbol, Any]) -> complex | None:
    try:
        value = complex(sp.N(expression.subs(values)))
    except Exception:  # an integral, a matrix, a division by zero
        return None
    return value if np.isfinite(value) else None


def _written(value: complex | None) -> str:
    if value is None:
        return "no number there"
    return f"{value.real:.6g}" if abs(value.imag) < 1e-12 else f"{value:.6g}"


def _side_by_side(mine: Any, book: Any) -> Rows:
    """What the reader's function gave, and the book's: of a large array the entry that is furthest off."""
    if isinstance(book, torch.Tensor | np.ndarray) and _array(book).size > MOST:
        left, right = _array(mine), _array(book)
        place = np.unravel_index(np.argmax(np.abs(left - right)), right.shape)
        at = f" at [{', '.join(map(str, map(int, place)))}]"
        return ((f"your function{at}", show(left[place])), (f"the book's{at}", show(right[place])))
    return (("your function", show(mine)), ("the book's", show(book)))


def _copies(arguments: Mapping[str, Any]) -> list[Any]:
    """The arguments, tensors and lists anew: a function that writes into them changes nothing."""
    return [
        v.clone() if isinstance(v, torch.Tensor) else list(v) if isinstance(v, list) else v for v in arguments.values()
    ]


def _numbers(value: Any) -> list[np.ndarray] | None:
    """What a function returned, as arrays in float64; one number has shape () however it is wrapped. None if it holds
    anything but numbers."""
    parts = value if isinstance(value, list | tuple) else [value]
    try:
        arrays = [_array(part) for part in parts]
    except (TypeError, ValueError, RuntimeError):
        return None
    return [array.reshape(()) if array.size == 1 else array for array in arrays]


def _array(value: Any) -> np.ndarray:
    array = np.asarray(value.detach().cpu() if isinstance(value, torch.Tensor) else value)
    if np.iscomplexobj(array):
        raise TypeError("complex numbers cannot be compared with real ones")
    return array.astype(np.float64)


def _agree(mine: list[np.ndarray] | None, theirs: list[np.ndarray] | None) -> bool:
    if mine is None or theirs is None or len(mine) != len(theirs):
        return False
    return all(
        a.shape == b.shape and np.allclose(a, b, rtol=0, atol=TOLERANCE * _size(b), equal_nan=True)
        for a, b in zip(mine, theirs, strict=True)
    )


def _size(array: np.ndarray) -> float:
    finite = np.abs(array[np.isfinite(array)])
    return float(finite.max()) if finite.size else 0.0
