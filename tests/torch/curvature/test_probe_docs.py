"""The tutorial's programs run, in order, and say what its prose says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from ravine import plots

ROOT = Path(__file__).resolve().parents[3]


def test_the_tutorial_runs(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "probe.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) == 5
    program = "\n".join(blocks)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "\nbouncing\n" in done.stdout, done.stdout
    assert "valid up to its end" in done.stdout, done.stdout
    assert "a larger one missed" in done.stdout


def test_what_it_names_is_there() -> None:
    from ravine.cli import forecast, probe

    assert callable(plots.follow_figure)
    for module in (forecast, probe):
        example = re.search(r"ravine .*", module.command.__doc__ or "")
        assert example is not None
        assert example.group(0) in (ROOT / "docs" / "probe.md").read_text(encoding="utf-8")
