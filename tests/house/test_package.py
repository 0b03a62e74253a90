"""The source archive holds all that its own tests need."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

FOLDERS = ("src", "tests", "examples", "benchmarks", "docs")
SUFFIXES = {".py", ".md", ".svg", ".j2", ".css", ".js", ".typed"}


def test_the_source_archive_is_whole(root: Path, tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(tmp_path), str(root)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.glob("ravine-*.tar.gz")
    with tarfile.open(archive) as packed:
        held = {name.partition("/")[2] for name in packed.getnames()}
    files = [path for folder in FOLDERS for path in (root / folder).rglob("*") if path.suffix in SUFFIXES]
    wanted = {path.relative_to(root).as_posix() for path in files}
    wanted |= {
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE",
        "Makefile",
        "constraints.txt",
        "pyproject.toml",
    }
    assert len(wanted) > 150
    assert wanted <= held, sorted(wanted - held)
