"""How long proofs take: Figure 1's run, d = 1 000, Section 6's cycle, and their checks. Prints; asserts nothing."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ravine.certify import Certificate, check, prove, prove_section_6


def _runs() -> dict[str, Callable[[], Certificate]]:
    rng = np.random.default_rng(0)
    start = [float(f"{x:.3g}") for x in rng.standard_normal(1000)]
    spread = np.round(np.linspace(1, 0.1, 1000), 6).tolist()
    power = [float(f"{1 / k**0.5:.6g}") for k in range(1, 1001)]
    return {
        "figure 1, to 1e-6": lambda: prove([1, 0.5], 0.2, 1, [2, 2], 1e-6),
        "figure 1, to 1e-40": lambda: prove([1, 0.5], 0.2, 1, [2, 2], "1e-40"),
        "d = 1000, λ from 1 to 0.1, to 1e-6": lambda: prove(spread, 0.2, 1, start, 1e-6),
        "d = 1000, λ = 1/√k, to 1e-3": lambda: prove(power, 0.2, 1, start, 1e-3),
        "section 6": prove_section_6,
    }


def main() -> None:
    print(f"{'proof':38} {'steps':>7} {'bits':>6} {'prove s':>9} {'check s':>9} {'file kB':>9}")
    with tempfile.TemporaryDirectory() as folder:
        for name, make in _runs().items():
            began = time.perf_counter()
            proof = make()
            made = time.perf_counter() - began
            path = proof.save(Path(folder) / "proof.json", force=True)
            began = time.perf_counter()
            check(path)
            checked = time.perf_counter() - began
            steps = proof.data.get("contraction", 0)
            print(
                f"{name:38} {steps:7} {proof.bits:6} {made:9.2f} {checked:9.2f} {path.stat().st_size / 1000:9.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
