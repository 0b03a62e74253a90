"""Source text made at run time, kept on disk so that Numba's compiled form outlives the process.

Numba can cache a compiled function only when its source is a file. The laboratory therefore writes
each generated module once, under a name that is the digest of its own text, and imports it from there:
the next process finds both the text and the machine code.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import ModuleType

import platformdirs

from ravine.files import write_beside

CACHE_VARIABLE = "RAVINE_CACHE_DIR"


@lru_cache(maxsize=1)
def _fallback_directory() -> Path:
    """A folder of this process's own, for a home that cannot be written to."""
    return Path(tempfile.mkdtemp(prefix="ravine-"))


def cache_directory() -> Path:
    """Where generated modules live: ``RAVINE_CACHE_DIR``, else the user's cache folder.

    The folder is private to the user, because what lies in it is imported. Where it cannot be made,
    a temporary folder serves, and nothing is kept between processes.
    """
    named = os.environ.get(CACHE_VARIABLE)
    directory = Path(named) if named else platformdirs.user_cache_path("ravine")
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return directory
    except OSError:
        return _fallback_directory()


def digest(*texts: str) -> str:
    """A name for a sequence of texts; the separator keeps ("ab", "c") and ("a", "bc") apart."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:32]


def remembered(key: str, make: Callable[[], str]) -> str:
    """The text stored under `key`, made and stored on first use."""
    path = cache_directory() / f"text_{key}.txt"
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        text = make()
        with write_beside(path, force=True) as temporary:
            temporary.write_text(text, encoding="utf-8")
        return text


@lru_cache(maxsize=256)
def load(source: str) -> ModuleType:
    """Import `source` as a module whose Numba functions are cached between processes."""
    name = f"ravine_generated_{digest(source)}"
    path = cache_directory() / f"{name}.py"
    # Numba stamps its cache with the file's time and size: an unchanged file must not be rewritten.
    if not path.is_file() or path.read_text(encoding="utf-8") != source:
        with write_beside(path, force=True) as temporary:
            temporary.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
