"""The probe experiment end to end, as ``ravine reproduce probe`` runs it: both networks, every check."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ravine.cli import main
from ravine.experiments import probe


@pytest.mark.xdist_group("probe")
def test_what_the_probe_foresees_happens(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["reproduce", "probe", "--out", str(tmp_path / "report")])
    record = json.loads((tmp_path / "report" / "report.json").read_text())
    assert exit_.value.code == 0, [check for check in record["checks"] if not check["holds"]]
    assert len(record["checks"]) == 14
    # The widest that the tolerances may be.
    bounds = {
        "amplitude": 0.01, "|cos|": 0.01, "cosine": 0.01, "length": 0.05, "λ_max over": 0.06, "gradient norm": 0.02,
    }  # fmt: skip
    for name in probe.NETWORKS:
        for word, bound in bounds.items():
            (check,) = [c for c in record["checks"] if c["quantity"].startswith(name) and word in c["quantity"]]
            assert check["tol"] <= bound * abs(check["predicted"]) * (1 + 1e-12)
        (check,) = [c for c in record["checks"] if c["quantity"].startswith(name) and "∇λ_max" in c["quantity"]]
        assert check["tol"] <= 1e-5


def test_the_networks_are_what_they_are_called() -> None:
    kinds = {name: {type(m).__name__ for m in probe.task(name).model.modules()} for name in probe.NETWORKS}
    assert "Conv2d" in kinds["convolutional"]
    assert {"Attention", "LayerNorm"} <= kinds["attention"]
    assert all(sum(p.numel() for p in probe.task(name).model.parameters()) >= 1000 for name in probe.NETWORKS)
