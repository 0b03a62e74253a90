"""The network experiment end to end, as ``ravine reproduce network`` runs it: both seeds, every check."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ravine.cli import main
from ravine.experiments import network


@pytest.mark.xdist_group("network")
def test_the_law_holds_on_a_real_network(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["reproduce", "network", "--out", str(tmp_path / "report")])
    record = json.loads((tmp_path / "report" / "report.json").read_text())
    assert exit_.value.code == 0, [check for check in record["checks"] if not check["holds"]]
    assert record["provenance"]["seeds"] == [0, 1]
    assert len(record["checks"]) == 12
    # The widest that the tolerances may be.
    bounds = {"amplitude": 0.01, "|cos|": 0.001, "cosine": 0.01, "length": 0.05, "predicted at": 0.06}
    for seed in network.SEEDS:
        for word, bound in bounds.items():
            (check,) = [c for c in record["checks"] if f"seed {seed}" in c["quantity"] and word in c["quantity"]]
            assert check["tol"] <= bound * abs(check["predicted"]) * (1 + 1e-12)


def test_the_task_is_real_and_large_enough() -> None:
    given = network.task(0)
    model, batches = given.model, given.batches
    assert sum(p.numel() for p in model.parameters()) >= 1000
    x, y = batches[0]
    assert x.shape == (network.IMAGES, 64)
    assert set(y.sum(dim=1).tolist()) == {1.0}
    assert network.SHARPNESS_STEP <= 0.5
