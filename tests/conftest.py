from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent

# Compiled code is kept out of the user's own cache, and shared by the worker processes.
os.environ.setdefault("RAVINE_CACHE_DIR", str(ROOT / ".pytest_cache" / "ravine"))
# The first call of a compiled function compiles: a deadline would measure that.
settings.register_profile(
    "ravine", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("ravine")


@pytest.fixture
def root() -> Path:
    """The root of the checkout."""
    return ROOT
