"""The quadratic objective in its three forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ortho_group

from ravine.objectives import quadratic

LAM = np.array([3.0, 1.0, 0.25, -0.5])
Q = ortho_group.rvs(4, random_state=0)
A = Q @ np.diag(LAM) @ Q.T


def test_the_three_forms_agree() -> None:
    w, u = np.random.default_rng(0).standard_normal((2, 4))
    matrix, operator = quadratic(A), quadratic(lambda x: A @ x, dimension=4)
    diagonal = quadratic(LAM)
    for loss in (matrix, operator):
        assert loss.dimension == 4
        assert loss.value(w) == pytest.approx(0.5 * w @ A @ w)
        assert np.allclose(loss.grad(w), A @ w)
        assert np.allclose(loss.hvp(w, u), A @ u)
        assert (loss.third(w, u) == 0).all()
        assert np.allclose(Q.T @ loss.grad(w), diagonal.grad(Q.T @ w))


@pytest.mark.parametrize(
    ("hessian", "dimension", "cure"),
    [
        ([[1.0, 2.0, 3.0], [2.0, 1.0, 0.0]], None, "square"),
        ([[1.0, 2.0], [2.1, 1.0]], None, r"\(A \+ A.T\)/2"),
        ([[1.0, np.nan], [np.nan, 1.0]], None, "finite"),
        ([1.0, np.inf], None, "finite"),
        ([], None, "pass eigenvalues"),
        (1.0, None, "pass eigenvalues"),
        ("ab", None, "pass numbers"),
        (lambda x: x, None, "dimension"),
        (lambda x: x, 0, "dimension"),
        ([1.0, 2.0], 2, "only for a callable"),
        (lambda x: x[:1], 2, "must map 2"),
        (lambda x: x * np.nan, 2, "must map 2"),
        (lambda x: x**2, 2, "not linear"),
        (lambda x: np.array([[0.0, 1.0], [-1.0, 0.0]]) @ x, 2, "not symmetric"),
    ],
)
def test_what_is_no_hessian_is_refused(hessian: object, dimension: int | None, cure: str) -> None:
    with pytest.raises(ValueError, match=cure):
        quadratic(hessian, dimension)  # pyright: ignore[reportArgumentType]


def test_rounding_is_no_asymmetry() -> None:
    loss = quadratic(A * (1 + 1e-15 * np.triu(np.ones((4, 4)))))
    w = np.ones(4)
    assert np.allclose(loss.hvp(w, w), A @ w)
