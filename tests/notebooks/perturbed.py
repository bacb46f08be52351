"""Runs the cells of a notebook, and gives every check that it meets the claim it was made for, and false ones.

False claims ("mutants") are made in two ways. From the value: the other sign, twice as much, its root, one more, its
entries moved by one place, its last entry alone doubled. From the code of the claim: each square root and each square
dropped, each + and - exchanged, each whole number raised by one, also that of x0 in a chain's "x1 | x0"; a name in it
stands for what was assigned to it, where that still has the same value and is found at once. A mutant counts only if it
changes what is claimed, which is found out without the checks: by numbers, at random points for sympy's expressions.

An inequality stays true under most of these, so there a mutant counts only if it is false in some of the numbers; and
the two sides are exchanged, made equal, and moved past each other. A mean of random draws cannot tell claims apart that
differ by less than its own error, so for it 5 per cent more is tried too, and may pass.

On the way the words of each tick are judged by what its check was given (see ticks.py).
"""

import ast
import asyncio
import contextlib
import copy
import inspect
import io
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import sympy as sp
import torch
from book_files import CLAIM, check_calls, code_cells, formulas, is_check, parsed, section_of, slip_of
from sympy.core.function import AppliedUndef
from ticks import Tick, objections

from diffnotes.book import check, symbols

MAY_PASS = "5 per cent more"
SIDES = ("lhs", "smaller", "code", "samples")  # what a check compares with its claim


@dataclass
class Probe:
    """One check call of a notebook: which false claims it refused, in a loop in any of its turns, and which it let pass."""

    where: str
    kind: str
    claim: ast.expr
    written_out: ast.expr
    refused: set[str] = field(default_factory=set)
    passed: dict[str, str] = field(default_factory=dict)
    tag: str = ""
    cell: int = -1
    objections: set[str] = field(default_factory=set)  # to the words of its tick


def probe_notebook(path: Path) -> list[Probe]:
    """Run the cells that have checks, and those that they need, in order, and probe every check on the way."""
    probes: list[Probe] = []
    names: dict[str, Any] = {"__name__": "__main__"}
    assigned: dict[str, ast.expr] = {}

    def probe_check(number: int, *args: Any, **kwargs: Any) -> None:
        function = getattr(check, probes[number].kind)
        function(*args, **kwargs)
        given = inspect.signature(function).bind(*args, **kwargs).arguments
        probes[number].objections |= set(_tick_objections(path, probes[number], given, names))
        if probes[number].passed or len(probes[number].refused) < 2:
            _try_false_claims(probes[number], function, given, names)

    names["probe_check"] = probe_check
    with asyncio.Runner() as runner, contextlib.redirect_stdout(io.StringIO()):
        for i, source in _needed_cells([(i, cell.source) for i, cell in code_cells(path)]):
            tree = ast.fix_missing_locations(_Instrument(i, probes, assigned).visit(parsed(source)))
            code = compile(tree, f"{path.name}, cell {i}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            result = eval(code, names)
            if inspect.iscoroutine(result):
                runner.run(result)
    return probes


def _needed_cells(cells: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """The cells with checks, and those that assign or change a name which a needed cell after them reads.

    The others draw pictures, sample and train for minutes, and no check would notice."""
    kept, needed = [], set[str]()
    modules = {
        n.asname or n.name
        for _, source in cells
        for node in ast.walk(parsed(source))
        if isinstance(node, ast.Import)
        for n in node.names
    }
    for i, source in reversed(cells):
        known, read, changed = set[str](), set[str](), set[str]()
        for step in _steps(parsed(source).body):
            read |= _names_read(step) - known
            known |= _names_stored(step)
            match step:
                case ast.Expr(ast.Call(ast.Attribute(ast.Name(name)))) if name not in {"plots", *modules}:
                    changed.add(name)  # by_hand.append(...), optimizer.step(); torch.manual_seed(0) changes no name
        changed |= known
        if check_calls(source) or changed & needed:
            kept.append((i, source))
            needed = (needed - known) | read
    return kept[::-1]


def _steps(statements: list[ast.stmt]) -> Iterator[ast.AST]:
    """The statements in order, and of loops and their like first the head and then the body."""
    for statement in statements:
        if isinstance(statement, ast.For | ast.While | ast.If | ast.With):
            for child in ast.iter_child_nodes(statement):
                yield from _steps([child]) if isinstance(child, ast.stmt) else [child]
        else:
            yield statement


def _names_read(step: ast.AST) -> set[str]:
    nodes = list(ast.walk(step))
    own = {
        n.id for c in nodes if isinstance(c, ast.comprehension) for n in ast.walk(c.target) if isinstance(n, ast.Name)
    }
    own |= {n.arg for n in nodes if isinstance(n, ast.arg)}
    return {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)} - own


def _names_stored(step: ast.AST) -> set[str]:
    stored = set[str]()
    for node in ast.walk(step):
        match node:
            case ast.Name(name, ast.Store()) | ast.FunctionDef(name) | ast.ClassDef(name):
                stored.add(name)
            case ast.Subscript(ast.Name(name), _, ast.Store()) | ast.Attribute(ast.Name(name), _, ast.Store()):
                stored.add(name)
            case ast.Import(names) | ast.ImportFrom(_, names):
                stored |= {(n.asname or n.name).split(".")[0] for n in names}
    return stored


class _Instrument(ast.NodeTransformer):
    """Puts probe_check(number, ...) in the place of check.identity(...) and its like."""

    def __init__(self, cell: int, probes: list[Probe], assigned: dict[str, ast.expr]) -> None:
        self.cell, self.probes, self.assigned = cell, probes, assigned

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        if isinstance(node.targets[0], ast.Name):
            self.assigned[node.targets[0].id] = node.value
        return node

    def visit_With(self, node: ast.With) -> ast.AST:
        return node if slip_of(node) else self.generic_visit(node)  # a wrong form fails as it stands

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if not is_check(node):
            return self.generic_visit(node)
        kind = node.func.attr  # type: ignore[attr-defined]
        claim = next((k.value for k in node.keywords if k.arg == CLAIM[kind]), None) or node.args[2]
        where = f"cell {self.cell}, check.{kind}({ast.unparse(node.args[0])}, ...)"
        written_out = _WriteOut(self.assigned).visit(copy.deepcopy(claim))
        self.probes.append(Probe(where, kind, claim, written_out, tag=ast.literal_eval(node.args[0]), cell=self.cell))
        number = ast.Constant(len(self.probes) - 1)
        return ast.Call(ast.Name("probe_check", ast.Load()), [number, *node.args], node.keywords)


def _tick_objections(path: Path, probe: Probe, given: dict[str, Any], names: dict[str, Any]) -> list[str]:
    """What the words of a tick claim too much, or do not match."""
    words = {name: given.get(name, "") for name in ("case", "lemma")}
    values = [value for name, value in given.items() if name in (*SIDES, CLAIM[probe.kind])]
    latex = (formulas(path) or formulas()).get(probe.tag, "")
    source, text = section_of(path, probe.cell)
    return objections(Tick(latex, probe.kind, values, **words, source=source, text=text, names=names))


class _WriteOut(ast.NodeTransformer):
    """Puts what was assigned to a name in its place."""

    def __init__(self, assigned: dict[str, ast.expr]) -> None:
        self.assigned = assigned

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return copy.deepcopy(self.assigned.get(node.id, node))


def _try_false_claims(
    probe: Probe, function: Callable[..., None], given: dict[str, Any], names: dict[str, Any]
) -> None:
    for name, changed in _false_claims(probe, given, names):
        if name in probe.refused:
            continue
        try:
            function(**{**given, **changed})
        except Exception:  # CheckFailed, or whatever the wrong algebra runs into
            probe.refused.add(name)
            probe.passed.pop(name, None)
        else:
            if name != MAY_PASS:
                probe.passed[name] = str(changed.get(CLAIM[probe.kind]))[:100]


def _false_claims(probe: Probe, given: dict[str, Any], names: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    slot = CLAIM[probe.kind]
    if probe.kind == "inequality":
        smaller, larger = given["smaller"], given["larger"]
        yield "sides exchanged", {"smaller": larger, "larger": smaller}
        yield "moved past each other", {"larger": _each(smaller, lambda v: v - 1)}
        if given.get("strict", True):
            yield "sides equal", {"larger": smaller}
    else:
        for name, value in _from_the_value(probe.kind, given[slot]):
            if _differ(value, given[slot]):
                yield name, {slot: value}
    begin = time.perf_counter()
    written_out = _value(probe.written_out, names)
    quick = time.perf_counter() - begin < 0.5  # not a sampler, to be run again for every mutant
    same = written_out is not None and not _differ(written_out, given[slot])
    for name, code in _from_the_code(probe.written_out if same and quick else probe.claim):
        value = _value(code, names)
        if value is None:  # no claim at all, so nothing to refuse
            continue
        if probe.kind == "inequality":
            if _false_in_numbers(given["smaller"], value, given.get("strict", True)):
                yield name, {slot: value}
        elif _differ(value, given[slot]):
            yield name, {slot: value}


def _value(claim: ast.expr, names: dict[str, Any]) -> Any:
    """What the code of a claim gives here and now; None if it gives nothing."""
    tree = ast.fix_missing_locations(ast.Expression(claim))
    try:
        with _same_random_numbers(names):
            return eval(compile(tree, "claim", "eval"), dict(names))
    except Exception:
        return None


# -- mutants ------------------------------------------------------------------------------------------------------------


def _from_the_value(kind: str, value: Any) -> Iterator[tuple[str, Any]]:
    yield "other sign", _each(value, lambda v: -v)
    yield "twice as much", _each(value, lambda v: 2 * v)
    yield "its root", _each(value, _root)
    yield "one more", _each(value, lambda v: v + 1)
    if kind == "monte_carlo":
        yield MAY_PASS, _each(value, lambda v: 1.05 * v)
    if isinstance(value, list | tuple) and len(value) > 1:
        yield "moved by one place", [*value[1:], value[0]]
        yield "last entry doubled", [*value[:-1], _each(value[-1], lambda v: 2 * v)]
    if isinstance(value, torch.Tensor | np.ndarray) and value.ndim and len(value) > 1:
        yield "moved by one place", value[[*range(1, len(value)), 0]]
        doubled = value.detach().clone() if isinstance(value, torch.Tensor) else value.copy()
        doubled[-1] *= 2
        yield "last entry doubled", doubled


def _each(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, list | tuple):
        return [_each(v, change) for v in value]
    return value.applyfunc(change) if isinstance(value, sp.MatrixBase) else change(value)


def _root(value: Any) -> Any:
    return sp.sqrt(value) if isinstance(value, sp.Basic) else abs(value) ** 0.5


def _from_the_code(claim: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    options = [node.value for node in ast.walk(claim) if isinstance(node, ast.keyword)]  # dim=1 is no part of a formula
    for i, node in enumerate(ast.walk(claim)):
        for name, _ in _changes(node) if node not in options else []:
            tree = copy.deepcopy(claim)
            place = list(ast.walk(tree))[i]
            new = dict(_changes(place))[name]
            yield f"{name} in {ast.unparse(node)[:50]} ({i})", _Replace(place, new).visit(tree)


def _changes(node: ast.AST) -> list[tuple[str, ast.expr]]:
    match node:
        case ast.BinOp(left, ast.Add(), right):
            return [("- for +", ast.BinOp(left, ast.Sub(), right))]
        case ast.BinOp(left, ast.Sub(), right):
            return [("+ for -", ast.BinOp(left, ast.Add(), right))]
        case ast.BinOp(left, ast.Pow(), ast.Constant(2)):
            return [("no square", left)]
        case ast.Call(ast.Name("sqrt") | ast.Attribute(attr="sqrt"), [inner]):
            return [("no root", inner)]
        case ast.Call(ast.Attribute(inner, "sqrt"), []):
            return [("no root", inner)]
        case ast.Constant(str(words)) if re.search(r"\bx\d\b", words):
            moved = {n: re.sub(rf"\bx{n}\b", f"x{int(n) + 1}", words) for n in re.findall(r"\bx(\d)\b", words)}
            return [(f"x{int(n) + 1} for x{n}", ast.Constant(other)) for n, other in moved.items()]
        case ast.Constant(int(k)) if not isinstance(k, bool):
            return [(f"{k + 1} for {k}", ast.Constant(k + 1))]
    return []


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else self.generic_visit(node)


@contextlib.contextmanager
def _same_random_numbers(names: dict[str, Any]) -> Iterator[None]:
    """A claim that draws random numbers draws the same again, and the cells after it notice nothing."""
    generators = [g for g in names.values() if isinstance(g, torch.Generator)]
    states = [g.get_state() for g in generators]
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


# -- what counts, found out by numbers ------------------------------------------------------------------------------------


def _differ(left: Any, right: Any) -> bool:
    """Whether two claims are different ones."""
    left, right = _flat(left), _flat(right)
    if len(left) != len(right):
        return True
    if any(isinstance(v, sp.Basic) for v in [*left, *right]):
        return any(not _close(*pair) for values in symbols.points(*left, *right) for pair in _at(left, right, values))
    scale = max((abs(float(v)) for v in right), default=0)
    return any(not abs(float(a) - float(b)) <= 1e-12 * scale and a != b for a, b in zip(left, right, strict=True))


def _false_in_numbers(smaller: Any, larger: Any, strict: bool) -> bool:
    left, right = _flat(smaller), _flat(larger)
    length = max(len(left), len(right))
    if not {len(left), len(right)} <= {1, length}:
        return False
    for a, b in zip(left * (length // len(left)), right * (length // len(right)), strict=True):
        for values in symbols.points(a, b):
            gap = complex(sp.N((sp.sympify(b) - sp.sympify(a)).subs(values)))
            if gap.imag or gap.real < 0 or (strict and gap.real == 0):
                return True
    return False


def _flat(value: Any) -> list[Any]:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().double().numpy()
    if isinstance(value, np.ndarray):
        return value.ravel().tolist()
    if isinstance(value, list | tuple | sp.MatrixBase):
        return [entry for part in value for entry in _flat(part)]
    return [value]


def _at(left: list[Any], right: list[Any], values: dict[sp.Symbol, Any]) -> Iterator[tuple[complex, complex]]:
    for a, b in zip(left, right, strict=True):
        if a != b:
            yield complex(sp.N(_said(a).subs(values))), complex(sp.N(_said(b).subs(values)))


def _said(expression: Any) -> sp.Expr:
    """The expression with a cosine in the place of every function that may be any function."""
    unknown = sorted({f.func for f in sp.sympify(expression).atoms(AppliedUndef)}, key=str)
    for k, function in enumerate(unknown, 2):
        expression = expression.replace(function, lambda *arguments, k=k: k + sp.cos(k * sp.Add(*arguments)))
    return sp.sympify(expression).doit() if unknown else sp.sympify(expression)


def _close(a: complex, b: complex) -> bool:
    return abs(a - b) <= 1e-9 * (1 + abs(b))
