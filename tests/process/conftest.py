"""Tables written out in plain Python, which the tests compare the package with."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def linear_tables() -> tuple[np.ndarray, np.ndarray]:
    """beta_t and alpha_bar_t of the linear schedule with T = 1000, by a loop in float64."""
    beta, alpha_bar = [0.0], [1.0]
    for t in range(1, 1001):
        beta.append(1e-4 + (t - 1) / 999 * (0.02 - 1e-4))
        alpha_bar.append(alpha_bar[-1] * (1 - beta[-1]))
    return np.array(beta), np.array(alpha_bar)
