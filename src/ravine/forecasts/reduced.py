"""The loss on a small space through the point: a quadratic, and what moves its largest eigenvalues.

With x = Ez the coordinates along the leading eigenvectors eᵢ,

    ℓ̂(z) = ℓ + g·z + ½zᵀHz + ½ Σ xᵢxⱼ(pᵢⱼ·z) + Σ κᵢⱼₖxᵢxⱼxₖ/6 + ¼‖x‖² zᵀBz,

where D³ℓ(eᵢ, eⱼ, ·) = pᵢⱼ + Σ κᵢⱼₖeₖ, pᵢⱼ and the symmetric B orthogonal to the eₖ. With the first three terms only,
SAM has the same ‖∇ℓ‖ as on the whole quadratic, to the degree of a Gauss quadrature.

**The bend B.** The third-order terms let λ₁ fall along a straight line. But ∇λ₁ changes on the way: after d, by
D⁴ℓ(e₁, e₁, d, ·) and, as e₁ turns, by 2 Σⱼ D³ℓ(e₁, eⱼ, d) D³ℓ(e₁, eⱼ, ·)/(λ₁−λⱼ), j over all other eigenvectors. Both
are of the same order, and the sum is too long to measure. So it is not: let d be the place that the third-order model
predicts, off the eᵢ, and

    y = ∇λ₁(w + d) − ∇λ̂₁(d),

the truth less that model, from one more third derivative with the e₁ found there. B = (ydᵀ + dyᵀ)/d² − (d·y) ddᵀ/d⁴ is
the smallest symmetric matrix with Bd = y (Powell's symmetric form of Broyden's secant). The quartic term moves each
leading eigenvalue by ½zᵀBz, and ∇λ̂₁ by Bz: at w + d it is the true one, and the fall of λ₁ on the way there is right
to the second order in d, as by the trapezoid rule. What of y leaves the small space is dropped: being orthogonal to
∇λ₁, it would change λ₁ at the next order only.

**Overtaking.** λ₁ may fall to the next eigenvalue. From there on the bounce along e₁ is unstable, and passes to another
direction when what there is of that has grown from nearly nothing: the time is its logarithm divided by a difference of
eigenvalues, and small errors of the model become large. `lead` says when.

What ℓ̂ lacks: D³ℓ between e₁ and the gradient's other directions, further eigenvalues that λ₁ may fall to,
D⁴ℓ(e₁, e₁, e₁, e₁), which the bounce feels to the relative order of its width squared, and the fifth order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ravine.methods import Method


@dataclass(frozen=True, repr=False)
class Reduced:
    """ℓ̂ on the small space; see the module.

    Attributes
    ----------
    hessian, g
        H and ∇ℓ(w) in the space's coordinates, shapes (m, m) and (m,).
    eigenvalues, e
        The k largest eigenvalues, descending, and their eigenvectors as rows, shapes (k,) and (k, m).
    p, kappa
        D³ℓ(eᵢ, eⱼ, ·) off the eₖ and along them, shapes (k, k, m) and (k, k, k).
    bend
        B, shape (m, m).
    rival
        The largest eigenvalue that is known and does not move here; −∞ if none.
    """

    hessian: np.ndarray
    g: np.ndarray
    eigenvalues: np.ndarray
    e: np.ndarray
    p: np.ndarray
    kappa: np.ndarray
    bend: np.ndarray
    rival: float

    def __repr__(self) -> str:
        return f"<Reduced: {self.g.size} dimensions, λ_max {float(self.eigenvalues[0]):.6g}>"

    def grad(self, z: np.ndarray) -> np.ndarray:
        """∇ℓ̂(z)."""
        x, bent = self.e @ z, self.bend @ z
        along = (self.p @ z + 0.5 * (self.kappa @ x)) @ x + 0.5 * (z @ bent) * x
        across = 0.5 * x @ np.tensordot(x, self.p, 1) + 0.5 * (x @ x) * bent
        return self.g + self.hessian @ z + along @ self.e + across

    def change(self, z: np.ndarray) -> float:
        """ℓ̂(z) − ℓ."""
        x = self.e @ z
        cubic = 0.5 * x @ (self.p @ z) @ x + (self.kappa @ x) @ x @ x / 6
        return float(self.g @ z + 0.5 * z @ self.hessian @ z + cubic + 0.25 * (x @ x) * (z @ self.bend @ z))

    def block(self, z: np.ndarray) -> np.ndarray:
        """The Hessian at z among the leading directions, shape (k, k)."""
        bent = 0.5 * (z @ self.bend @ z) * np.eye(self.eigenvalues.size)
        return np.diag(self.eigenvalues) + self.p @ z + self.kappa @ (self.e @ z) + bent

    def sharpness(self, z: np.ndarray) -> float:
        """The largest eigenvalue among the leading directions at z; NaN where it is not finite."""
        moved = self.block(z)
        return float(np.linalg.eigvalsh(moved)[-1]) if np.isfinite(moved).all() else float("nan")

    def lead(self, z: np.ndarray) -> float:
        """How far the curvature along e₁ at z is above the others; negative once λ₁ is overtaken."""
        along = np.diag(self.block(z))
        return float(along[0] - max(self.rival, along[1:].max(initial=-np.inf)))

    def slope(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """∇λ̂₁ at z off the eₖ, and λ̂₁'s eigenvector in terms of the eₖ."""
        v = np.linalg.eigh(self.block(z))[1][:, -1]
        return v @ np.tensordot(v, self.p, 1) + self.bend @ z, v

    def off_leading(self, z: np.ndarray) -> np.ndarray:
        """The part of z that is orthogonal to the eₖ."""
        return z - (self.e @ z) @ self.e

    def run(self, method: Method, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Iterates from 0 and velocities, shape (steps + 1, m); NaN once they are no longer finite."""
        m = self.g.size
        z, velocity = np.full((steps + 1, m), np.nan), np.full((steps + 1, m), np.nan)
        z[0], velocity[0] = 0.0, 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            for t in range(steps):
                here = self.grad(z[t])
                if not np.isfinite(here).all():
                    break
                z[t + 1], velocity[t + 1] = method.step(self.grad, z[t], here, velocity[t])
        return z, velocity
