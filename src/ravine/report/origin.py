"""Where a report's numbers come from."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ravine.version import __version__

_LIBRARIES = ("numpy", "scipy", "numba", "sympy", "xarray", "torch", "scikit-learn", "matplotlib")


def provenance(command: str, seeds: list[int]) -> dict[str, Any]:
    """Version, commit, machine, seeds and command; the commit is None outside a checkout."""
    return {
        "ravine": __version__,
        "commit": _commit(),
        "command": command,
        "seeds": seeds,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        "python": platform.python_version(),
        "libraries": {name: found for name in _LIBRARIES if (found := _installed_version(name)) is not None},
    }


def _installed_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the checkout that this package runs from, with "+changes" where files differ from it."""
    here = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        # A package installed inside somebody else's checkout must not claim that one's commit.
        if not git("ls-files", "version.py"):
            return None
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return None
