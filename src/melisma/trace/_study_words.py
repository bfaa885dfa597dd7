"""What a study's trace says of itself: what it is, and what must hold for it to be more."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from melisma.trace._study_columns import Question
    from melisma.trace.mediation import Mediation

ASSOCIATION = "association consistent with mediation"
_KINDS = {
    "continuous": "The outcome is linear in exposure, mediators and covariates.",
    "case-control": (
        "The outcome is rare in the population (under about 10%), and cases and controls were "
        "chosen by nothing else; mediators are fitted {how}."
    ),
    "cohort": (
        "The log odds are linear; effects are averaged over what the mediators leave unexplained, "
        "taken as normal, at the covariates' means."
    ),
    "hazard": (
        "Effects add to the rate of events and are constant over time; mediators are normal about "
        "their line; follow-up ends for no reason that is linked to the event, given exposure, "
        "mediators and covariates."
    ),
    "aft": (
        "Log times are normal about their line; follow-up ends for no reason that is linked to the "
        "event, given exposure, mediators and covariates."
    ),
}


def assumptions(found: "Mediation", question: "Question", screened: bool) -> tuple[str, ...]:
    """Sentences, the first of which says that this is an association."""
    weighted = question.prevalence is not None
    how = f"weighted to a prevalence of {question.prevalence:g}" if weighted else "in controls"
    order = "The exposure comes before the mediators, and they before the outcome"
    if question.via is not None:
        order += f"; the sites or regions come before {question.via}"
    told = [
        f"This is an {ASSOCIATION}: its effects are causes only where all of the following holds.",
        "Nothing unmeasured moves both exposure and outcome, both exposure and mediators, or both "
        "mediators and outcome, given the covariates.",
        "Nothing that the exposure changes, and that is not a mediator here, moves both mediators "
        "and outcome.",
        order + ".",
        "Exposure and mediators do not change each other's effect on the outcome (no interaction), "
        "and mediators are linear in exposure and covariates.",
        "Mediators and exposure are measured without error; error in a mediator draws its effect "
        "towards 0.",
        _KINDS[found.kind].format(how=how),
    ]
    if len(found.own) > 1:
        told.append(
            "Mediators do not cause one another in an order that matters: their sum is the effect "
            "through any of them, and a single one's part depends on the others in the model."
        )
    if found.components is not None:
        told.append(
            f"{found.components.weights.shape[1]} components, which hold "
            f"{found.components.variance:.0%} of the mediators' variance, stand for "
            f"{len(found.own):,} mediators; what they leave out counts as direct."
        )
    if screened:
        told.append(
            "Mediators were chosen and measured on the same samples, so that their effects lean "
            "away from 0 (winner's curse)."
        )
    return tuple(told)
