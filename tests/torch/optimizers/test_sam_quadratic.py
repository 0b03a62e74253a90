"""SAM on random quadratics, in float64: the closed form, the kernels, and the cycle of the theory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from networks import closure_on

import ravine
from ravine.torch import SAM

STEPS = 200


def problem(seed: int, d: int) -> tuple[np.ndarray, np.ndarray, float, float]:
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(d, d)))
    lam = np.sort(rng.uniform(0.05, 1.0, d))[::-1]
    h = q @ np.diag(lam) @ q.T
    return (h + h.T) / 2, rng.normal(size=d), rng.uniform(0.05, 0.9), rng.uniform(0.01, 0.5)


def train(h: np.ndarray, w0: np.ndarray, eta: float, momentum: float = 0.0, two_phases: bool = False, **switches):
    """The iterates, with the weights cut into three tensors of different shape."""
    hessian = torch.from_numpy(h)
    cuts = np.split(w0, [1, 1 + (len(w0) - 1) // 2])
    parts = [torch.from_numpy(c.copy()).requires_grad_() for c in cuts]
    opt = SAM(torch.optim.SGD(parts, lr=eta, momentum=momentum), **switches)
    iterates = [w0.copy()]

    def loss() -> torch.Tensor:
        w = torch.cat(parts)
        return w @ hessian @ w / 2

    closure = closure_on(opt, loss)
    for _ in range(STEPS):
        if two_phases:
            closure()
            with opt.ascended():
                closure()
            opt.step()
        else:
            opt.step(closure)
        iterates.append(torch.cat(parts).detach().numpy().copy())
    return np.array(iterates), opt


RUNS = {
    "seed": st.integers(0, 2**32 - 1),
    "d": st.integers(3, 12),
    "momentum": st.sampled_from([0.0, 0.5]),
    "rule": st.sampled_from(["sam", "usam"]),
    "two_phases": st.booleans(),
    "watch": st.booleans(),
}


@settings(max_examples=25, deadline=None)
@given(**RUNS)
def test_200_steps_equal_the_closed_form(naive, *, seed, d, momentum, rule, two_phases, watch):
    h, w0, eta, rho = problem(seed, d)

    def exact(start):
        return naive.run(rule, lambda w: h @ w, start, STEPS, eta, rho=rho, momentum=momentum)

    theirs = exact(w0)
    # A run that passes a saddle of J multiplies its own rounding; such a one is held to the law step by step, below.
    assume(np.abs(exact(w0 * (1 + 2**-50)) - theirs).max() < 1e-13)
    ours, _ = train(h, w0, eta, momentum, two_phases, rho=rho, normalize=rule == "sam", watch=watch)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(**RUNS)
def test_every_step_equals_the_closed_form(naive, *, seed, d, momentum, rule, two_phases, watch):
    h, w0, eta, rho = problem(seed, d)
    ours, _ = train(h, w0, eta, momentum, two_phases, rho=rho, normalize=rule == "sam", watch=watch)
    for t in range(1, STEPS):
        theirs = naive.step(rule, lambda w: h @ w, ours[t], eta, rho) + momentum * (ours[t] - ours[t - 1])
        np.testing.assert_allclose(ours[t + 1], theirs, rtol=0, atol=1e-14)


@pytest.mark.parametrize("seed", range(5))
def test_the_laboratory_walks_the_same_way(seed):
    """The compiled kernels, on a diagonal, where no step passes near a saddle."""
    rng = np.random.default_rng(seed)
    lam, w0 = np.sort(rng.uniform(0.4, 1, 8))[::-1], rng.normal(size=8)
    ours, _ = train(np.diag(lam), w0, 0.5, rho=0.05)
    run = ravine.trajectory(ravine.quadratic(lam), ravine.SAM(eta=0.5, rho=0.05), start=w0, steps=STEPS)
    theirs = run.w.squeeze("run").transpose("step", "coord").to_numpy()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


def test_it_ends_in_the_cycle_of_the_theory():
    lam = np.array([1.0, 0.6, 0.5, 0.4])
    eta, rho = 0.4, 0.05
    ours, _ = train(np.diag(lam), np.ones(4), eta, rho=rho)
    amplitude = eta * rho * lam[0] / (2 - eta * lam[0])
    np.testing.assert_allclose(np.abs(ours[-2:]), [[amplitude, 0, 0, 0]] * 2, atol=1e-9)
    assert ours[-1, 0] * ours[-2, 0] < 0


def test_the_bounce_is_seen_at_once():
    lam = np.array([1.0, 0.2])
    eta, rho = 0.4, 0.05
    w = torch.tensor([eta * rho / (2 - eta), 0.0], dtype=torch.float64, requires_grad=True)
    opt = SAM(torch.optim.SGD([w], lr=eta), rho=rho, bounce=True)
    closure = closure_on(opt, lambda: (torch.from_numpy(lam) * w**2).sum() / 2)
    opt.step(closure)
    assert opt.last.bounce is None
    opt.step(closure)
    assert opt.last.bounce == pytest.approx(-1, abs=1e-12)


def test_per_group_radius_and_norm():
    """ε of each group by hand, for both norms."""
    torch.manual_seed(0)
    start = [torch.randn(3, dtype=torch.float64), torch.randn(2, dtype=torch.float64)]
    lam = [torch.tensor([3.0, 2, 1]), torch.tensor([1.0, 4])]
    for norm in ("global", "group"):
        a, b = (s.clone().requires_grad_() for s in start)
        opt = SAM(torch.optim.SGD([{"params": [a], "rho": 0.3}, {"params": [b]}], lr=0.1), rho=0.1, norm=norm)
        ga, gb = lam[0] * start[0], lam[1] * start[1]
        whole = torch.cat([ga, gb]).norm()
        na, nb = (whole, whole) if norm == "global" else (ga.norm(), gb.norm())
        (lam[0] * a**2).sum().div(2).backward()
        (lam[1] * b**2).sum().div(2).backward()
        with opt.ascended():
            torch.testing.assert_close(a.detach(), start[0] + 0.3 * ga / na, rtol=0, atol=1e-15)
            torch.testing.assert_close(b.detach(), start[1] + 0.1 * gb / nb, rtol=0, atol=1e-15)


@pytest.mark.parametrize("maximize", [False, True])
def test_weight_decay_inside_the_ascent(maximize):
    start = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    lam = torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)
    for inside in (False, True):
        w = start.clone().requires_grad_()
        base = torch.optim.SGD([w], lr=0.1, weight_decay=0.7, maximize=maximize)
        opt = SAM(base, rho=0.2, ascent_weight_decay=inside)
        sign = -1 if maximize else 1
        (sign * lam * w**2).sum().div(2).backward()
        g = lam * start + (0.7 * start if inside else 0)
        with opt.ascended():
            torch.testing.assert_close(w.detach(), start + 0.2 * g / g.norm(), rtol=0, atol=1e-15)
            (sign * lam * w**2).sum().div(2).backward()
        opt.step()
        descent = lam * (start + 0.2 * g / g.norm()) + 0.7 * start
        torch.testing.assert_close(w.detach(), start - 0.1 * descent, rtol=0, atol=1e-15)
        assert opt.last.grad_norm == pytest.approx(g.norm().item(), rel=1e-14)
