"""Optional dependencies: a missing one is an error that names the extra to install."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


class MissingExtra(ImportError):  # noqa: N818 (it names what is missing, as ImportError does)
    """A part of the library whose optional dependency is not installed.

    Examples
    --------
    >>> from ravine.extras import require
    >>> require("a_missing_library", "report")
    Traceback (most recent call last):
    ravine.extras.MissingExtra: this needs a_missing_library, of the extra 'report': pip install 'ravine[report]'
    """


def require(module: str, extra: str) -> ModuleType:
    """Import `module`, which the extra `extra` brings.

    Raises
    ------
    MissingExtra
        With the command that installs it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and module.split(".", maxsplit=1)[0] != error.name.split(".")[0]:
            raise
        raise MissingExtra(
            f"this needs {module.split('.', maxsplit=1)[0]}, of the extra '{extra}': pip install 'ravine[{extra}]'"
        ) from None
