"""The main job: a study.toml in, a folder with store, tables, report and record out."""

from melisma.study._config import StudyConfig, read_study
from melisma.study._run import Run, open_with_design, run_study
from melisma.study._traces import Reading

__all__ = ["Reading", "Run", "StudyConfig", "open_with_design", "read_study", "run_study"]
