"""A Run's form, and its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import ravine as rv
from ravine import schema
from ravine.files import write_beside


@pytest.fixture
def run() -> xr.Dataset:
    return rv.trajectory(rv.section_6(), rv.SAM(eta=0.2, rho=1.0), start=[0.1, 0.1], steps=5)


def test_the_form(run: xr.Dataset) -> None:
    assert {str(name): run[name].dims for name in run.data_vars} == schema.DIMENSIONS
    assert [run[name].dims for name in schema.RUN_COORDINATES] == [("run",)] * 6
    assert run["method"].item() == "sam"
    assert (run["eta"].item(), run["rho"].item(), run["momentum"].item(), run["seed"].item()) == (0.2, 1.0, 0.0, 0)
    assert np.isnan(run["sigma"].item())
    assert run.attrs["objective"] == "w1**2/(1+w2**2/2) + w2**2/2"
    assert run.attrs["ravine_version"] == rv.__version__
    assert run["status"].attrs["flag_meanings"].split()[run["status"].item()] == "finished"


def test_there_and_back(run: xr.Dataset, tmp_path: Path) -> None:
    rv.save(run, tmp_path / "run.nc")
    back = rv.load(tmp_path / "run.nc")
    assert back.identical(run.assign_coords(method=run["method"].astype(back["method"].dtype)))
    assert rv.statuses(back) == rv.statuses(run)


def test_files_are_not_overwritten_unasked(run: xr.Dataset, tmp_path: Path) -> None:
    path = tmp_path / "run.nc"
    path.write_text("mine")
    with pytest.raises(ValueError, match="exists"):
        rv.save(run, path)
    assert path.read_text() == "mine"
    rv.save(run, path, force=True)
    assert rv.load(path)["w"].equals(run["w"])
    with pytest.raises(ValueError, match="does not exist"):
        rv.save(run, tmp_path / "no" / "run.nc")
    with pytest.raises(ValueError, match="is a folder"):
        rv.save(run, tmp_path, force=True)


def test_a_crash_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "run.nc"
    path.write_text("old")

    def crash() -> None:
        with write_beside(path, force=True) as temporary:
            temporary.write_text("half")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        crash()
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["run.nc"]


def test_what_is_no_run_is_refused(tmp_path: Path, run: xr.Dataset) -> None:
    with pytest.raises(ValueError, match="no such file"):
        rv.load(tmp_path / "none.nc")
    (tmp_path / "text.nc").write_text("text")
    with pytest.raises(ValueError, match="not a NetCDF file"):
        rv.load(tmp_path / "text.nc")
    run.drop_vars("loss").to_netcdf(tmp_path / "part.nc", engine="h5netcdf")
    with pytest.raises(ValueError, match="lacks loss"):
        rv.load(tmp_path / "part.nc")
