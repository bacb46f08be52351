from fractions import Fraction

import numpy as np
import pytest

from diffnotes.book import chain
from diffnotes.book.proof.chain import Distribution

HALF, THIRD = Fraction(1, 2), Fraction(1, 3)


@pytest.fixture
def q() -> Distribution:
    return Distribution.forward(chain.probabilities(3, seed=1), [chain.kernel(3, seed=2), chain.kernel(3, seed=3)])


def test_forward_multiplies_the_start_with_the_kernels():
    q = Distribution.forward([HALF, HALF], [np.array([[THIRD, 1 - THIRD], [1, 0]], dtype=object)])
    assert q.names == ("x0", "x1")
    assert q.joint.tolist() == [[Fraction(1, 6), Fraction(1, 3)], [HALF, 0]]


def test_backward_begins_at_the_end():
    kernels = [chain.kernel(2, seed=4), chain.kernel(2, seed=5)]
    prior = chain.probabilities(2, seed=6)
    p = Distribution.backward(prior, kernels)
    assert p.names == ("x0", "x1", "x2")
    assert p.joint[1, 0, 1] == prior[1] * kernels[1][1, 0] * kernels[0][0, 1]


def test_tables_have_one_axis_for_each_variable(q):
    assert q("x1").shape == (1, 3, 1)
    assert q("x2 | x0").shape == (3, 1, 3)
    assert q("x2, x0").shape == (3, 1, 3)


def test_conditionals_sum_to_one_exactly(q):
    assert (q("x0, x2 | x1").sum(axis=(0, 2)) == 1).all()


def test_the_chain_rule_holds_exactly(q):
    assert (q("x0") * q("x1 | x0") * q("x2 | x1, x0") == q.joint).all()


def test_the_chain_is_markov_forwards_but_x0_matters_backwards(q):
    assert (q("x2 | x1, x0") == q("x2 | x1")).all()
    assert not (q("x1 | x2, x0") == q("x1 | x2")).all()


def test_mean_is_the_sum_over_all_states(q):
    assert q.mean(1) == 1
    assert q.mean(q("x1 | x0") / q("x1 | x0")) == 1


def test_tables_can_have_different_numbers_of_states():
    q = Distribution.forward(chain.probabilities(2, seed=1), [chain.kernel(2, seed=2, next_states=3)])
    assert q("x1").shape == (1, 3) and q("x1").sum() == 1


def test_log_is_in_float64():
    assert chain.log(np.array([Fraction(1, 2)], dtype=object)) == np.log(0.5)


@pytest.mark.parametrize("which", ["", "x1 | x1", "| x0"])
def test_what_is_no_conditional_is_refused(q, which):
    with pytest.raises(ValueError, match="each of them once"):
        q(which)


def test_unknown_variables_are_named(q):
    with pytest.raises(ValueError, match="this distribution has the variables x0, x1, x2, got x7"):
        q("x1 | x7")


def test_what_does_not_sum_to_one_is_refused():
    with pytest.raises(ValueError, match="sum to 1, got a sum of 3/2"):
        Distribution(("x0",), np.array([HALF, 1], dtype=object))


def test_the_wrong_number_of_axes_is_refused():
    with pytest.raises(ValueError, match="one axis for each of x0, x1"):
        Distribution(("x0", "x1"), np.array([HALF, HALF], dtype=object))
