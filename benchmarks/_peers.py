"""Peers in R: run where their package is installed, named as missing where it is not."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parent / "peers"


def installed(package: str) -> bool:
    """Whether R and one of its packages are installed."""
    if shutil.which("Rscript") is None:
        return False
    code = f"quit(status = !requireNamespace('{package}', quietly = TRUE))"
    return subprocess.run(["Rscript", "-e", code], capture_output=True).returncode == 0


def run(script: str, arguments: Sequence[object]) -> dict[str, Any]:
    """The JSON object that a script of `peers/` prints as its last line."""
    command = ["Rscript", "--vanilla", str(SCRIPTS / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{script} failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])
