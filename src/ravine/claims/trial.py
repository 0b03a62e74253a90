"""The trial of a statement: search for a negative margin, decide the worst instance in balls, shrink what refutes."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any

import numpy as np

from ravine.claims.ledger import LEDGER
from ravine.claims.refutation import Refutation
from ravine.claims.search import Search, try_at_random, try_deeper, try_odd_shapes
from ravine.claims.shrinking import shrink
from ravine.claims.statement import Claim, Statement
from ravine.claims.verdicts import StatementOutcome, Verdict
from ravine.extras import require

Progress = Callable[[StatementOutcome], None]


def judge(
    statement: Statement, claim: Claim, samples: int, seed: int, given: Mapping[str, Any] | None = None
) -> Verdict:
    """Put one wording of a statement of arXiv 2210.01513 on trial.

    Parameters
    ----------
    samples
        Random instances; Hypothesis and the optimizer add theirs. A statement that simulates long runs takes fewer.
    seed
        Of the random instances; with the statement's key it fixes the verdict.
    given
        Parameters fixed by the user: some of `eigenvalues`, `eta`, `rho`, `start`, `eps`. Instances outside the
        hypotheses are reported, never moved inside.

    Raises
    ------
    ValueError
        If `given` names another parameter, or `start` is of another length than the eigenvalues.
    AssertionError
        If a claim that has a proof has a counterexample too.

    Examples
    --------
    >>> from ravine.claims import Claim, Statement, judge
    >>> from ravine.claims.hypotheses import convex
    >>> from ravine.claims.law import Law
    >>> from ravine.claims.samplers import quadratic
    >>> claim = Claim(latex="β₁ ≤ b/2", margin=lambda at, n: n.of(1) / 2 - Law(at, n).beta[0] / Law(at, n).b)
    >>> statement = Statement(key="mine", title="Mine", draw=quadratic, hypotheses=convex, printed=claim)
    >>> judge(statement, claim, samples=10, seed=0).status
    'refuted'
    """
    given = given or {}
    search = Search(statement, claim, given)
    found = _searched(search, statement, claim, samples=samples, seed=seed)
    if found is not None:
        # A seed is a counterexample chosen by hand: simple already, and to the point.
        if not given and found.instance not in claim.seeds:
            found = shrink(statement, claim, found)
        if claim.proof is not None and not given:
            raise AssertionError(f"{statement.key}: a claim with a proof has the counterexample {found}")
        return Verdict(
            status="refuted", instances=search.instances, untested=search.untested,
            smallest=found.bound, instance=found.instance, evidence=found.evidence,
        )  # fmt: skip
    if not search.instances:
        status = "outside" if search.outside else "untested"
        return Verdict(status=status, untested=search.untested, outside=search.outside)
    smallest, instance, _ = search.worst[0]
    return Verdict(
        status="not refuted" if claim.proof is None else "proved",
        instances=search.instances,
        untested=search.untested,
        smallest=smallest,
        instance=instance,
        evidence="" if claim.proof is None else claim.proof(),
    )


def _searched(search: Search, statement: Statement, claim: Claim, *, samples: int, seed: int) -> Refutation | None:
    """Seeds, then random draws, then odd shapes and depth; each round only where the ones before refute nothing."""
    samples = 1 if statement.single else max(8, samples // statement.cost)
    if not search.given:
        for instance in claim.seeds:
            search.weigh(instance, [])
    found = search.refutation()
    if found is None:
        try_at_random(search, samples, np.random.default_rng([seed, zlib.crc32(statement.key.encode())]))
        found = search.refutation()
    if found is None and search.instances and not statement.single:
        try_odd_shapes(search, max(8, samples // 8), seed)
        try_deeper(search, max(20, samples // 8))
        found = search.refutation()
    return found


def audit(
    statements: list[Statement],
    *,
    samples: int = 1000,
    seed: int = 0,
    given: Mapping[str, Any] | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
) -> list[StatementOutcome]:
    """Put statements of arXiv 2210.01513 on trial, in their order.

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
        If `samples`, `jobs` or `seed` is out of range, and as `judge`.
    MissingExtra
        Without the extra `certify`.

    Examples
    --------
    >>> from ravine.claims import audit, find
    >>> audit(find(["lemma-13"]), samples=20)
    [StatementOutcome(lemma-13: printed proved)]
    """
    if samples < 1 or jobs < 1:
        raise ValueError(f"samples = {samples}, jobs = {jobs}: give numbers ≥ 1")
    if seed < 0:
        raise ValueError(f"seed = {seed}: give a number ≥ 0")
    require("flint", "certify")
    done: dict[str, StatementOutcome] = {}
    if jobs == 1 or len(statements) == 1:
        for statement in statements:
            done[statement.key] = both_verdicts(statement.key, samples, seed, given)
            if progress is not None:
                progress(done[statement.key])
    else:
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            tasks = {pool.submit(both_verdicts, s.key, samples, seed, given): s.key for s in statements}
            try:
                for task in as_completed(tasks):
                    done[tasks[task]] = task.result()
                    if progress is not None:
                        progress(done[tasks[task]])
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    return [done[statement.key] for statement in statements]


def both_verdicts(key: str, samples: int, seed: int, given: Mapping[str, Any] | None = None) -> StatementOutcome:
    """Both verdicts on the statement called `key`: by name, since a process is sent no functions."""
    statement = LEDGER[key]
    printed, corrected = (
        None if claim is None else judge(statement, claim, samples, seed, given)
        for claim in (statement.printed, statement.corrected)
    )
    return StatementOutcome(key, printed, corrected)
