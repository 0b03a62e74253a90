"""Arrays of other libraries as NumPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace, is_array_api_obj, to_device


def as_numpy(array: Any, dtype: Any = np.float64) -> np.ndarray:
    """An array of NumPy, torch or any library of the array API standard as one of NumPy, on the CPU.

    Parameters
    ----------
    array
        On any device; of torch, one that needs no gradient. It is shared, not copied, where library and dtype allow.
    dtype
        What the result holds, a dtype of NumPy or its name.

    Raises
    ------
    TypeError
        If it is no array of a known library.
    """
    if isinstance(array, np.ndarray):
        return np.asarray(array, dtype=dtype)
    if not is_array_api_obj(array):
        raise TypeError(
            f"give an array, of NumPy, torch or another library of the standard, not {type(array).__name__}"
        )
    # Converted after the move: not every device has float64.
    here = to_device(array, "cpu")
    xp = array_namespace(here)
    return np.asarray(xp.astype(here, getattr(xp, np.dtype(dtype).name), copy=False))
