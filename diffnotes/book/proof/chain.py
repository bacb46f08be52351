"""Small chains with finitely many states, in exact fractions: here every sum can be carried out and nothing is estimated.

    q = Distribution.forward(start, kernels)      start[i] = q(x0 = i),  kernels[t-1][i, j] = q(x_t = j | x_{t-1} = i)
    p = Distribution.backward(prior, kernels)     prior[i] = p(x_T = i), kernels[t-1][i, j] = p(x_{t-1} = j | x_t = i)

    q("x1")              the marginal of x1
    q("x1 | x0, x2")     the conditional, a table over x0, x1 and x2

A table has one axis for each variable of the chain, of length 1 where the variable does not occur; so tables of one chain
multiply, divide and compare as the formulas do. This module is an oracle: it uses nothing of the package's torch code.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Distribution:
    """A joint distribution of the variables `names`: `joint[i, j, ...]` is the probability of names[0] = i, names[1] = j, ..."""

    names: tuple[str, ...]
    joint: np.ndarray

    def __post_init__(self) -> None:
        if self.joint.ndim != len(self.names):
            raise ValueError(
                f"joint must have one axis for each of {', '.join(self.names)}, got shape {self.joint.shape}"
            )
        if abs(float(self.joint.sum()) - 1) > 1e-12 or min(self.joint.flat) < 0:
            raise ValueError(f"joint must hold probabilities that sum to 1, got a sum of {self.joint.sum()}")

    @classmethod
    def forward(cls, start: Sequence[Any], kernels: Sequence[np.ndarray]) -> "Distribution":
        """The Markov chain x0, x1, ..., xT that begins with the distribution `start` and takes one step with each kernel."""
        joint = np.asarray(start, dtype=object)
        for kernel in kernels:
            joint = joint[..., None] * np.asarray(kernel, dtype=object)
        return cls(tuple(f"x{t}" for t in range(joint.ndim)), joint)

    @classmethod
    def backward(cls, prior: Sequence[Any], kernels: Sequence[np.ndarray]) -> "Distribution":
        """The chain that begins at xT with the distribution `prior`; kernels[t-1] leads from x_t to x_{t-1}."""
        turned = cls.forward(prior, kernels[::-1])
        return cls(turned.names, turned.joint.transpose())

    def __call__(self, which: str) -> np.ndarray:
        """The table of "x1", "x0, x2" or "x1 | x0, x2": one axis for each variable, of length 1 where it does not occur."""
        wanted, _, given = which.partition("|")
        left, right = self._variables(wanted), self._variables(given) if given else []
        if not left or set(left) & set(right):
            raise ValueError(
                f'which must be variables, such as "x1" or "x1 | x0, x2", each of them once, got {which!r}'
            )
        together = self._marginal([*left, *right])
        return together / self._marginal(right) if right else together

    def mean(self, values: Any) -> Any:
        """The expectation of a table of values under this distribution."""
        return (self.joint * values).sum()

    def _variables(self, words: str) -> list[str]:
        variables = [word for part in words.split(",") for word in part.split()]
        unknown = [name for name in variables if name not in self.names]
        if unknown:
            raise ValueError(f"this distribution has the variables {', '.join(self.names)}, got {', '.join(unknown)}")
        return variables

    def _marginal(self, variables: list[str]) -> np.ndarray:
        others = tuple(axis for axis, name in enumerate(self.names) if name not in variables)
        return np.asarray(self.joint.sum(axis=others, keepdims=True) if others else self.joint, dtype=object)


def kernel(states: int, seed: int, next_states: int | None = None) -> np.ndarray:
    """A random table of transition probabilities in whole fractions: rows sum to 1, no entry is 0."""
    draws = random.Random(seed)
    rows = [[draws.randint(1, 9) for _ in range(next_states or states)] for _ in range(states)]
    return np.array([[Fraction(entry, sum(row)) for entry in row] for row in rows], dtype=object)


def probabilities(states: int, seed: int) -> np.ndarray:
    """A random distribution on `states` states, in fractions, no entry 0."""
    return np.asarray(kernel(1, seed, states)[0], dtype=object)


def log(table: Any) -> np.ndarray:
    """The natural logarithm of every entry, in float64: logarithms of fractions are none."""
    return np.log(np.asarray(table, dtype=np.float64))
