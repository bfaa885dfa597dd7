"""`melisma demo`: `melisma run` on the real data inside the package."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option(help="The folder to fill.")] = Path("melisma-demo"),
) -> None:
    """Run the built-in study of naive B cells, healthy and lupus, from calls to report.

    A second part traces gliomas' survival back to a mutated gene. With the extra `deep` a third
    learns what the sequence says of fibroblasts' levels, and how it reads one site.

    \b
    Example:
      melisma demo --out melisma-demo
    """
    from melisma import datasets
    from melisma._extras import installed
    from melisma.cli._readings import glioma_chain, readings
    from melisma.cli._terminal import terminal
    from melisma.cli.run import show_run
    from melisma.study import read_study, run_study

    folder = datasets.folder("lupus")
    study, parts = read_study(folder / "study.toml"), ["lupus", "imr90", "glioma"]
    if not installed("torch", "lightning_fabric", "safetensors"):
        study, parts = study.model_copy(update={"sequence": None}), ["lupus", "glioma"]
    notices = [(datasets.folder(n) / "NOTICE.md").read_text(encoding="utf-8") for n in parts]
    with terminal():
        traces = readings(study) | {"From a mutated gene to survival": glioma_chain}
        result = run_study(study, out, notices=notices, traces=traces)
    show_run(result)
    if study.sequence is None:
        typer.echo('What the sequence says needs the extra deep: pip install "melisma[deep]".')
