"""Writing a panel's folder."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from melisma.errors import MelismaError

if TYPE_CHECKING:
    from melisma.markers import Found

RECORD = "panel.json"


def check_folder(out: Path) -> None:
    """Refuse, before anything is computed, a folder that holds anything but an earlier panel."""
    if out.exists() and not out.is_dir():
        raise MelismaError(f"{out} is a file: name a folder to make.")
    if out.is_dir() and any(out.iterdir()) and not (out / RECORD).exists():
        raise MelismaError(f"{out} holds files and no {RECORD}: name another folder.")


def write_panel(found: "Found", out: Path) -> list[str]:
    """Write panel.json, panel.bed and folds.tsv; all of them or nothing. Returns their names."""
    from melisma.methylome import part_folder, replace_folder

    work = part_folder(out)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        found.panel.write(work / RECORD)
        bed = found.panel.bed()
        if bed is not None:
            bed.write_csv(work / "panel.bed", separator="\t", include_header=False)
        found.folds.write_csv(work / "folds.tsv", separator="\t")
        names = sorted(file.name for file in work.iterdir())
        replace_folder(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return names
