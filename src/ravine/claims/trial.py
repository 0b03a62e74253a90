"""The trial of a statement: search for a negative margin, shrink the worst instance, decide it in ball arithmetic.

Floats only propose. A refutation is a ball (or an exact fraction) that lies below zero at an instance whose every
hypothesis is as certainly met; what no ball decides is not a refutation, however negative its float.
"""

from __future__ import annotations

import os
import random
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from typing import Any

import numpy as np

from ravine.claims.ledger import Claim, Statement, Untested, find
from ravine.claims.numbers import Balls, Exact, Floats, Numbers, Undecided, precision
from ravine.claims.samplers import Draw, Instance, digits
from ravine.extras import require
from ravine.generated import cache_directory

PRECISIONS = (128, 512, 2048, 8192)
_NOISE = 1e-7  # what Hypothesis is asked to beat; any negative float of the other searches is looked at
_UNITS = 24
_KEPT = 6
_GRID = tuple(k / 100 for k in range(101))


@dataclass(frozen=True)
class Verdict:
    """What the trial found of one wording.

    Attributes
    ----------
    status
        proved · refuted · not refuted · outside (no instance met the hypotheses) · untested.
    instances, untested
        How many instances were evaluated, and on how many the claim said nothing within the limits.
    smallest
        The smallest margin met, a float; for `refuted`, the certified counterexample's.
    instance
        Where it was met.
    evidence
        The proof in words, or the ball that refutes.
    outside
        The hypotheses that failed, with their margins, where none was met.
    """

    status: str
    instances: int = 0
    untested: int = 0
    smallest: float | None = None
    instance: Instance | None = None
    evidence: str = ""
    outside: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """A statement's two verdicts."""

    key: str
    printed: Verdict | None
    corrected: Verdict | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


Progress = Callable[[Outcome], None]


@dataclass(frozen=True)
class Refutation:
    """A certified counterexample: the margin is at most `bound` < 0, at `bits` bits (0 for exact fractions)."""

    instance: Instance
    bound: float
    bits: int

    @property
    def evidence(self) -> str:
        how = f"balls at {self.bits} bits" if self.bits else "exact fractions"
        return f"margin ≤ {self.bound:.4g} by {how}"


def certify(statement: Statement, claim: Claim, instance: Instance) -> Refutation | None:
    """Decide an instance for good: a refutation if every hypothesis holds and the margin is negative, certainly."""
    for bits in PRECISIONS if statement.exact else ():
        with precision(bits):
            try:
                margin = _evaluate(statement, claim, instance, Balls())
            except Undecided:
                continue
            except (Untested, ArithmeticError, ValueError):
                return None
            if margin is None:
                return None
            if margin < 0:
                return Refutation(instance, _below_zero(margin), bits)
            if margin >= 0:
                return None
    try:
        exact = _evaluate(statement, claim, instance, Exact())
    except (Undecided, Untested, ArithmeticError):
        return None
    return Refutation(instance, float(exact), 0) if exact is not None and exact < 0 else None


def _below_zero(ball: Any) -> float:
    """A float above the ball, and below zero where the ball is: for print, the sign alone is proved."""
    text = ball.upper().str(17, radius=False)
    value = float(np.nextafter(float(text), 0.0))
    return value if value < 0 else -float(np.finfo(float).tiny)


def _evaluate(statement: Statement, claim: Claim, instance: Instance, n: Numbers) -> Any:
    """The margin, or None where a hypothesis is not met; raises `Undecided` where one cannot be told."""
    hypotheses = dict(statement.hypotheses(instance, n))
    if claim.also is not None:
        hypotheses |= claim.also(instance, n)
    for name, value in hypotheses.items():
        if value <= 0:
            return None
        if not value > 0:
            raise Undecided(name)
    return claim.margin(instance, n)


def shrink(statement: Statement, claim: Claim, found: Refutation, budget: int = 250) -> Refutation:
    """A simpler counterexample: fewer coordinates, fewer digits; certified again at each turn.

    It keeps at least a tenth of the violation, so that what is shown is not a hair's breadth.
    """
    best, floor = found, found.bound / 10

    def accepts(instance: Instance) -> bool:
        nonlocal best, budget
        if budget <= 0 or instance == best.instance:
            return False
        budget -= 1
        try:
            trial = certify(statement, claim, instance)
        except (ArithmeticError, ValueError, IndexError):
            return False
        if trial is None or trial.bound > floor:
            return False
        best = trial
        return True

    accepts(_in_units(best.instance))
    moved = True
    while moved and budget > 0:
        moved = False
        for simpler in _shorter(best.instance):
            moved = accepts(simpler) or moved
        for path in _numbers(best.instance):
            for value in _plainer(_at(best.instance, path)):
                if accepts(_with(best.instance, path, value)):
                    moved = True
                    break
    return best


def _in_units(instance: Instance) -> Instance:
    """The same quadratic run in units in which λ₁ = 1 and ρ = 1, to four digits."""
    if not {"lam", "eta", "rho"} <= instance.keys() or {"w", "R"} & instance.keys():
        return instance
    top, rho = instance["lam"][0], instance["rho"]
    moved = {"v": tuple(digits(x / (top * rho), 4) for x in instance["v"])} if "v" in instance else {}
    return (
        instance
        | moved
        | {
            "lam": tuple(digits(x / top, 4) for x in instance["lam"]),
            "eta": digits(instance["eta"] * top, 4),
            "rho": 1.0,
        }
    )


def _shorter(instance: Instance) -> Iterator[Instance]:
    size = len(instance["lam"]) if "lam" in instance else 0
    for drop in range(size - 1, 0, -1) if size > 2 else ():
        yield {
            name: tuple(x for k, x in enumerate(value) if k != drop)
            if isinstance(value, tuple) and len(value) == size
            else value
            for name, value in instance.items()
        }


def _numbers(instance: Instance) -> list[tuple[str, int | None]]:
    paths: list[tuple[str, int | None]] = []
    for name, value in instance.items():
        if isinstance(value, float):
            paths.append((name, None))
        elif isinstance(value, tuple):
            paths += [(name, k) for k, x in enumerate(value) if isinstance(x, float)]
    return paths


def _at(instance: Instance, path: tuple[str, int | None]) -> float:
    name, place = path
    return instance[name] if place is None else instance[name][place]


def _with(instance: Instance, path: tuple[str, int | None], value: float) -> Instance:
    name, place = path
    if place is None:
        return instance | {name: value}
    return instance | {name: (*instance[name][:place], value, *instance[name][place + 1 :])}


def _plainer(value: float) -> list[float]:
    """Values simpler than `value`, simplest first; none for one that is simple already."""
    tried = [0.0, 1.0, abs(value), float(f"{value:.0e}"), float(f"{value:.1e}")]
    return [x for k, x in enumerate(tried) if _weight(x) < _weight(value) and x not in tried[:k]]


def _weight(value: float) -> tuple[int, int, int]:
    mantissa, exponent = f"{abs(value):.16e}".split("e")
    significant = mantissa.replace(".", "").rstrip("0")
    return len(significant), abs(int(exponent)) + (significant not in ("", "1")), int(value < 0)


class _Search:
    """The margins met so far, and the instances worth a second look."""

    def __init__(self, statement: Statement, claim: Claim, given: Mapping[str, Any]) -> None:
        self.statement, self.claim, self.given = statement, claim, given
        self.instances = self.untested = 0
        self.outside: dict[str, float] = {}
        self.worst: list[tuple[float, Instance, list[float]]] = []
        self.used = 1

    def look(self, units: list[float]) -> float:
        draw = Draw(iter(units), self.given)
        instance = self.statement.draw(draw)
        self.used = max(1, min(draw.used, len(units)))
        return self.weigh(instance, units[: self.used])

    def weigh(self, instance: Instance, units: list[float]) -> float:
        """The float margin; +∞ where there is none."""
        n = Floats()
        try:
            hypotheses = dict(self.statement.hypotheses(instance, n))
            if self.claim.also is not None:
                hypotheses |= self.claim.also(instance, n)
            failing = {name: float(value) for name, value in hypotheses.items() if not value > 0}
            if failing:
                self.outside = failing
                return np.inf
            margin = float(self.claim.margin(instance, n))
        except (Untested, ArithmeticError, ValueError):
            self.untested += 1
            return np.inf
        if np.isnan(margin):
            self.untested += 1
            return np.inf
        self.instances += 1
        if len(self.worst) < _KEPT or margin < self.worst[-1][0]:
            self.worst = sorted([*self.worst, (margin, instance, units)], key=lambda item: item[0])[:_KEPT]
        return margin

    def refutation(self) -> Refutation | None:
        """The first of the worst instances that is certainly a counterexample."""
        for margin, instance, _ in self.worst:
            if margin >= 0:
                break
            found = certify(self.statement, self.claim, instance)
            if found is not None:
                return found
        return None


def judge(
    statement: Statement, claim: Claim, samples: int, seed: int, given: Mapping[str, Any] | None = None
) -> Verdict:
    """Put one wording on trial.

    Parameters
    ----------
    samples
        Random instances; Hypothesis and the optimiser add theirs. A statement that simulates long runs takes fewer.
    seed
        Of the random instances; with the statement's key it fixes the verdict.
    given
        Parameters fixed by the user (`lam`, `eta`, `rho`, `start`, `eps`, …). Instances outside the hypotheses are
        reported, never moved inside.
    """
    given = given or {}
    search = _Search(statement, claim, given)
    samples = 1 if statement.single else max(8, samples // statement.cost)
    if not given:
        for instance in claim.seeds:
            search.weigh(instance, [])
    found = search.refutation()
    rng = np.random.default_rng([seed, zlib.crc32(statement.key.encode())])
    if found is None:
        for _ in range(samples):
            search.look(rng.random(_UNITS).tolist())
        found = search.refutation()
    if found is None and search.instances and not statement.single:
        _shapes(search, seed, max(8, samples // 8))
        _deepen(search, max(20, samples // 8))
        found = search.refutation()
    if found is not None:
        # A seed is a counterexample chosen by hand: simple already, and to the point.
        if not given and found.instance not in claim.seeds:
            found = shrink(statement, claim, found)
        if claim.proof is not None and not given:
            raise AssertionError(f"{statement.key}: a claim with a proof has the counterexample {found}")
        return Verdict("refuted", search.instances, search.untested, found.bound, found.instance, found.evidence, {})
    if not search.instances:
        status = "outside" if search.outside else "untested"
        return Verdict(status, 0, search.untested, outside=search.outside)
    smallest, instance, _ = search.worst[0]
    if claim.proof is not None:
        return Verdict("proved", search.instances, search.untested, smallest, instance, claim.proof())
    return Verdict("not refuted", search.instances, search.untested, smallest, instance)


def _shapes(search: _Search, seed: int, examples: int) -> None:
    """Hypothesis: streams of units with repeated, extreme and round entries."""
    hypothesis = require("hypothesis", "certify")
    st = hypothesis.strategies
    streams = st.lists(st.sampled_from(_GRID), min_size=search.used, max_size=search.used)
    settings = hypothesis.settings(
        max_examples=examples, database=None, deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    with _elsewhere(), suppress(hypothesis.errors.NoSuchExample):
        hypothesis.find(
            streams, lambda units: search.look(units) < -_NOISE, settings=settings, random=random.Random(seed)
        )


@contextmanager
def _elsewhere() -> Iterator[None]:
    """Two habits of Hypothesis set aside for the time of a search.

    It keeps a folder where the command was given: here with the other generated files. And it draws constants from
    whatever modules of the user are imported: a verdict must not depend on them.
    """
    name = "HYPOTHESIS_STORAGE_DIRECTORY"
    providers = require("hypothesis.internal.conjecture.providers", "certify")
    local = getattr(providers, "is_local_module_file", None)
    providers.is_local_module_file = lambda path: False  # pyright: ignore[reportAttributeAccessIssue]
    configuration = require("hypothesis.configuration", "certify")
    kept = getattr(configuration, "__hypothesis_home_directory", None)
    configuration.set_hypothesis_home_dir(os.environ.get(name) or cache_directory() / "hypothesis")
    try:
        yield
    finally:
        configuration.set_hypothesis_home_dir(kept)
        providers.is_local_module_file = local  # pyright: ignore[reportAttributeAccessIssue]


def _deepen(search: _Search, evaluations: int) -> None:
    """Nelder and Mead's simplex, from the worst instances so far, over the sampler's unit cube."""
    from scipy.optimize import minimize

    for _, _, units in [item for item in search.worst if item[2]][:3]:
        minimize(
            lambda x: min(search.look(x.tolist()), 1e300),
            units,
            method="Nelder-Mead",
            bounds=[(0.0, 1.0)] * len(units),
            options={"maxfev": evaluations, "xatol": 1e-4, "fatol": 0.0},
        )


def outcome(key: str, samples: int, seed: int, given: Mapping[str, Any] | None = None) -> Outcome:
    """Both verdicts on the statement called `key`."""
    (statement,) = (s for s in find([key]) if s.key == key)
    printed, corrected = (
        None if claim is None else judge(statement, claim, samples, seed, given)
        for claim in (statement.printed, statement.corrected)
    )
    return Outcome(key, printed, corrected)


def audit(
    statements: list[Statement],
    *,
    samples: int = 1000,
    seed: int = 0,
    given: Mapping[str, Any] | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
) -> list[Outcome]:
    """Put statements on trial, in their order.

    Parameters
    ----------
    statements
        As `find` returns them.
    samples, seed, given
        As `judge`.
    jobs
        Processes; the verdicts do not depend on it.
    progress
        Called with each statement's outcome when it is done; what it raises stops the trial.

    Raises
    ------
    ValueError
        If `samples`, `jobs` or `seed` is out of range.
    """
    if samples < 1 or jobs < 1:
        raise ValueError(f"samples = {samples}, jobs = {jobs}: give numbers ≥ 1")
    if seed < 0:
        raise ValueError(f"seed = {seed}: give a number ≥ 0")
    require("flint", "certify")
    done: dict[str, Outcome] = {}
    if jobs == 1 or len(statements) == 1:
        for statement in statements:
            done[statement.key] = outcome(statement.key, samples, seed, given)
            if progress is not None:
                progress(done[statement.key])
    else:
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            tasks = {pool.submit(outcome, s.key, samples, seed, given): s.key for s in statements}
            try:
                for task in as_completed(tasks):
                    done[tasks[task]] = task.result()
                    if progress is not None:
                        progress(done[tasks[task]])
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    return [done[statement.key] for statement in statements]
