"""The programs of README and docs/laboratory.md run, their commands exist, their links and targets are there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "docs" / "laboratory.md"]
TEXTS = [page.read_text(encoding="utf-8") for page in PAGES]
PROGRAMS = [program for text in TEXTS for program in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)]
COMMANDS = [command for text in TEXTS for command in re.findall(r"^(ravine .*)$", text, flags=re.MULTILINE)]


def test_there_is_something_to_test() -> None:
    assert len(PROGRAMS) >= 5
    assert len(COMMANDS) >= 7


def anchors(text: str) -> set[str]:
    """The names that a page's headings get when it is rendered."""
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_run(program: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_commands_run(tmp_path: Path) -> None:
    """In one folder and in order: some read what another wrote."""
    for command in COMMANDS:
        program, *arguments = shlex.split(command)
        path = str(Path(sys.executable).with_name(program))
        done = subprocess.run([path, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), command


@pytest.mark.parametrize("page", sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]))
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^):]+)\)", text):
        path, _, anchor = target.partition("#")
        to = page.parent / path if path else page
        assert to.exists(), target
        assert not anchor or anchor in anchors(to.read_text(encoding="utf-8")), target


def test_make_targets_exist(root: Path) -> None:
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"(?:^|`)make (\w+)", "\n".join(TEXTS), flags=re.MULTILINE)
    assert {"paper", "test"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
