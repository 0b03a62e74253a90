"""What is read off a Run: the bounce, and the sharpness along it."""

from __future__ import annotations

import numpy as np
import pytest

from ravine import observations, theory
from ravine.methods import SAM
from ravine.objectives import expression, quadratic, section_6
from ravine.simulate import ensemble, trajectory
from ravine.spectrum import eigenpairs


def test_the_bounce_of_a_cycle() -> None:
    lam = [1.0, 0.5, 0.2]
    law = theory.quadratic(lam, 0.2, 1.0)
    run = trajectory(quadratic(lam), SAM(eta=0.2, rho=1.0), start=law.cycle[0], steps=5)
    seen = observations.bounce(run)
    assert seen.sizes == {"run": 1, "step": 5, "coord": 3}
    assert np.allclose(seen["centre"], 0, atol=1e-15)
    assert np.allclose(seen["amplitude"], law.amplitude)
    assert np.allclose(seen["half_width"].values[0, 0], -law.cycle[0])
    assert seen["step"].values.tolist() == [0, 1, 2, 3, 4]


def test_the_bounce_of_many_runs() -> None:
    runs = ensemble(section_6(), SAM(eta=0.2, rho=1.0), starts=[[0.1, 0.1], [1.0, 1.0]], steps=4)
    w = runs["w"].values
    seen = observations.bounce(runs)
    assert np.allclose(seen["centre"], (w[:, 1:] + w[:, :-1]) / 2)
    assert np.allclose(seen["half_width"], (w[:, 1:] - w[:, :-1]) / 2)


def test_sharpness_along_a_run() -> None:
    # Two dimensions are too few for an iterative eigensolver: a third, nearly flat and apart.
    loss = expression("w1**2/(1+w2**2/2) + w2**2/2 + w3**2/1000")
    run = trajectory(loss, SAM(eta=0.2, rho=1.0), start=[0.1, 0.1, 0.0], steps=401)
    seen = observations.sharpness(loss, run, [0, 400])
    height = float(theory.section_6.cycle(0.2, 1.0)[0, 1])
    assert float(seen["eigenvalues"].sel(step=400, pair=1)) == pytest.approx(
        theory.section_6.sharpness(height), rel=1e-9
    )
    assert float(seen["alignment"].sel(step=400)) == pytest.approx(1.0, abs=1e-12)
    assert (seen["residual"] < 1e-5).all()


# With ηλ₁ < 2m a run may end in a wider orbit, of four points; λ₁ = 4/3.
@pytest.mark.parametrize(("eta", "momentum"), [(0.3, 0.0), (0.3, 0.15), (1.0, 0.5)])
def test_the_drift_of_a_run(eta: float, momentum: float) -> None:
    loss, w = expression("w1**2/(1+w2**2/2) + w3**2/4 + w4**2/8"), np.array([0.0, -1.0, 0.0, 0.0])
    pairs, rho, steps = eigenpairs(loss, w), 0.01, 100
    seen = observations.drift(
        loss, w, eigenvector=pairs.vectors[0], sharpness_gradient=loss.third(w, pairs.vectors[0]),
        sharpness=float(pairs.values[0]), eta=eta, rho=rho, momentum=momentum, steps=steps,
    )  # fmt: skip
    # From the bounce on: from w itself, the gradient vanishes.
    begin = w + theory.amplitude(float(pairs.values[0]), eta, rho, momentum) * pairs.vectors[0]
    run = trajectory(loss, SAM(eta=eta, rho=rho, momentum=momentum), start=begin, steps=steps + 1)
    centre = observations.bounce(run)["centre"].values[0, steps]
    assert centre - w == pytest.approx(seen.moved, abs=0.03 * float(np.linalg.norm(seen.moved)))
    assert 2 / (1 + centre[1] ** 2 / 2) - 4 / 3 == pytest.approx(seen.sharpness_change, rel=0.03)
    assert steps * seen.flat == pytest.approx(seen.moved, rel=0.02, abs=1e-12)
    assert (seen.momentum, seen.sharpness_change < 0) == (momentum, True)


def test_misuse() -> None:
    run = trajectory(section_6(), SAM(eta=0.2, rho=1.0), start=[0.1, 0.1], steps=10, every=2)
    with pytest.raises(ValueError, match="every=1"):
        observations.bounce(run)
    with pytest.raises(ValueError, match="every=1"):
        observations.bounce(run.isel(step=[0]))
    runs = ensemble(section_6(), SAM(eta=0.2, rho=1.0), starts=[[0.1, 0.1]] * 2, steps=3)
    with pytest.raises(ValueError, match="one run"):
        observations.sharpness(section_6(), runs, [0])
    with pytest.raises(ValueError, match="three dimensions"):
        observations.sharpness(section_6(), runs.isel(run=[0]), [0])
