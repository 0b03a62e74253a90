"""Files are written beside their place and renamed into it, so that none is ever half written."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def refuse_existing(path: str | Path, *, force: bool) -> Path:
    """The path, if it may be written.

    Raises
    ------
    ValueError
        If it exists and `force` is not set, is a folder, or its folder does not exist.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a file")
    if path.exists() and not force:
        raise ValueError(f"{path} exists; choose another name or overwrite it with --force (force=True)")
    if not path.parent.is_dir():
        raise ValueError(f"the folder {path.parent} does not exist; make it first")
    return path


@contextmanager
def write_beside(path: str | Path, *, force: bool) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it to `path` if the block succeeds, else remove it."""
    path = refuse_existing(path, force=force)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.{secrets.token_hex(4)}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
