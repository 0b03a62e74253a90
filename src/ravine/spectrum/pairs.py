"""Eigenvalues of a symmetric operator, with their vectors and what bounds their errors."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, repr=False)
class Eigenpairs:
    """Eigenvalues from the outermost inwards, with their vectors and bounds.

    Attributes
    ----------
    values
        Shape (k,): descending for the largest, ascending for the smallest. Fewer than asked for after an interrupt.
    vectors
        Shape (k, d), of norm 1.
    residuals
        ‖Hv − λv‖ and what rounding may have added, shape (k,): each interval λ ± residual holds an eigenvalue.
    gap_bounds
        residual²/gap (Kato and Temple), shape (k,): the error on the condition that no other eigenvalue lies within
        the gap to the neighbouring values' intervals, which no Krylov space can show; infinite where these overlap.
    missed
        Shape (k,): a bound on the probability with which a random start misses an eigenvalue that lies further out than
        the pair, by more than its residual, the tolerance, and 1 % of the largest |λ|. Copies of a multiple eigenvalue
        are not counted: a Krylov space holds one.
    converged
        Shape (k,): whether the pair met the tolerance.
    products
        The number of Hessian-vector products spent.
    interrupted
        Whether it was stopped by the keyboard; the bounds hold none the less.

    Examples
    --------
    >>> import ravine as rv
    >>> rv.spectrum.eigenpairs(rv.quadratic([3.0, 2.0, 1.0, 0.5]), [0.0] * 4, k=2)
    <Eigenpairs: 3 ± 1e-14, 2 ± 1e-14; 4 products>
    """

    values: np.ndarray
    vectors: np.ndarray
    residuals: np.ndarray
    gap_bounds: np.ndarray
    missed: np.ndarray
    converged: np.ndarray
    products: int
    interrupted: bool = False

    def following(self, previous: Eigenpairs) -> tuple[Eigenpairs, np.ndarray]:
        """These pairs with each vector's sign as in `previous`, and which of the previous pairs each one continues.

        The second is an integer array (k,): entry i is the index of the previous vector that overlaps most with
        vector i, each used once, −1 where there is none left. Where it is not 0, 1, 2, … eigenvalues have crossed.
        """
        from scipy.optimize import linear_sum_assignment

        overlaps = self.vectors @ previous.vectors.T
        rows, columns = linear_sum_assignment(-np.abs(overlaps))
        origin = np.full(len(self.values), -1)
        origin[rows] = columns
        signs = np.ones(len(self.values))
        signs[rows] = np.where(overlaps[rows, columns] < 0, -1.0, 1.0)
        return replace(self, vectors=self.vectors * signs[:, None]), origin

    def __repr__(self) -> str:
        pairs = zip(self.values[:4].tolist(), self.residuals[:4].tolist(), strict=True)
        shown = ", ".join(f"{value:.6g} ± {residual:.0e}" for value, residual in pairs)
        more = f", … {len(self.values)} in all" if len(self.values) > 4 else ""
        state = ", interrupted" if self.interrupted else ""
        return f"<Eigenpairs: {shown}{more}; {self.products} products{state}>"
