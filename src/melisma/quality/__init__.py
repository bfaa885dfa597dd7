"""Quality of a study: coverage, conversion, sex, levels, outliers, limits, and who is who."""

from melisma.quality._batch import Covariates
from melisma.quality._checks import LIMITS
from melisma.quality._identity import Identity, person_labels
from melisma.quality._sex import SexCheck
from melisma.quality._sheet import Contradiction
from melisma.quality.check import Quality, check_quality

__all__ = [
    "LIMITS",
    "Contradiction",
    "Covariates",
    "Identity",
    "Quality",
    "SexCheck",
    "check_quality",
    "person_labels",
]
