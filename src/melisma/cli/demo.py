"""`melisma demo`: `melisma run` on the real data inside the package."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option(help="The folder to fill.")] = Path("melisma-demo"),
) -> None:
    """Run the built-in study of naive B cells, healthy and lupus, from calls to report.

    \b
    Example:
      melisma demo --out melisma-demo
    """
    from melisma import datasets
    from melisma.cli._terminal import terminal
    from melisma.cli.run import show_run
    from melisma.study import run_study

    folder = datasets.folder("lupus")
    notice = (folder / "NOTICE.md").read_text(encoding="utf-8")
    with terminal():
        result = run_study(folder / "study.toml", out, notices=(notice,))
    show_run(result)
