from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

ROOT = Path(__file__).resolve().parent.parent

# Compiled code is kept out of the user's own cache, and shared by the worker processes.
os.environ.setdefault("RAVINE_CACHE_DIR", str(ROOT / ".pytest_cache" / "ravine"))
# The first call of a compiled function compiles: a deadline would measure that.
settings.register_profile(
    "ravine", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("ravine")
# Hypothesis also draws constants from the local modules that happen to be imported: draws would then depend on which
# tests a worker has run before, in spite of derandomize.
assert hasattr(providers, "is_local_module_file")
providers.is_local_module_file = lambda path: False  # pyright: ignore[reportPrivateImportUsage]


@pytest.fixture
def root() -> Path:
    """The root of the checkout."""
    return ROOT
