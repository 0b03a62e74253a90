"""Arrays of other libraries as NumPy's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ravine.arrays import as_numpy


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.int64])
def test_any_dtype_of_torch(kind: torch.dtype) -> None:
    found = as_numpy(torch.tensor([[1, -2], [3, 0]], dtype=kind))
    assert found.dtype == np.float64
    assert found.tolist() == [[1.0, -2.0], [3.0, 0.0]]


def test_numpy_itself_is_not_copied() -> None:
    array = np.arange(3.0)
    assert as_numpy(array) is array
    assert as_numpy(array.astype(np.float32)).dtype == np.float64


def test_another_dtype() -> None:
    assert as_numpy(torch.tensor([True, False]), bool).tolist() == [True, False]
    assert as_numpy(torch.tensor([1.5], dtype=torch.bfloat16), np.float32).dtype == np.float32
    assert as_numpy(np.array([1.0, 0.0]), "bool").dtype == bool


def test_what_is_no_array() -> None:
    for thing in ("text", [1.0, 2.0]):
        with pytest.raises(TypeError, match="give an array"):
            as_numpy(thing)
