"""Runs an example as its own command would, and leaves without the interpreter's end.

Gloo's threads may outlive the process group and abort the interpreter while it ends (pytorch issue 190489): seen once,
after the example had printed all it had to say.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    program = sys.argv[1]
    sys.argv = sys.argv[1:]
    sys.path[0] = str(Path(program).parent)
    runpy.run_path(program, run_name="__main__")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
