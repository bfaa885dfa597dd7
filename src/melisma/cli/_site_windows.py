"""A site's window, its shuffles and what they do, for the verb and for a study's report."""

from typing import TYPE_CHECKING, Any, NamedTuple

from melisma.errors import MelismaError

if TYPE_CHECKING:
    from melisma.genome import Genome
    from melisma.sequence.checkpoint import Model
    from melisma.trace.site import SiteEffects


class Asked(NamedTuple):
    """The window of a site and its shuffles."""

    window: Any
    others: Any
    surroundings: Any
    head: int
    about: dict[str, Any]


def asked_of(
    model: "Model", genome: "Genome", place: str, mark: str | None, shuffles: int, seed: int
) -> Asked:
    """The window of a place, checked, and its shuffles.

    Raises
    ------
    MelismaError
        The place is no site that the model learned.
    """
    import numpy as np

    from melisma.sequence.experiments import dinucleotide_shuffle
    from melisma.sequence.predict import windows_of_sites
    from melisma.sequence.windows import BASE_OF_MARK
    from melisma.trace.site import shuffled_around_site

    sites = _site(genome, place)
    windows, head, code = windows_of_sites(model, genome, sites, mark=mark)
    window = windows.codes(np.zeros(1, np.int64))[0]
    middle = len(window) // 2
    letter = "ACGTN"[window[middle]]
    if letter != BASE_OF_MARK[code]:
        raise MelismaError(
            f"{place} holds {letter}, and {code} sits on {BASE_OF_MARK[code]}: positions count "
            "from 0."
        )
    _require_context(model, genome, sites, windows.strand, place)
    bases = 2 if model.record.get("contexts") == ["CG"] else 1
    others = shuffled_around_site(
        window, shuffles, bases, lambda part, n: dinucleotide_shuffle(part, n, seed=seed)
    )
    around = windows.surroundings(np.zeros(1, np.int64)) if model.config.surroundings else None
    return Asked(window, others, around, head, {"site": place, "mark": code, "genome": genome.name})


def effects_of(model: "Model", asked: Asked, told: dict[str, Any]) -> "SiteEffects":
    """What its bases and the model's parts carry in one environment."""
    import torch

    from melisma.sequence.checkpoint import strand_views
    from melisma.trace.site import site_effects

    environment = model.environment.encode_one(told).values
    around = None if asked.surroundings is None else torch.from_numpy(asked.surroundings)
    batch = {
        "environment": torch.from_numpy(environment.copy()) if model.environment.width else None,
        "surroundings": around,
    }
    return site_effects(
        model.members, asked.window, asked.others, batch, head=asked.head,
        temperature=model.temperature[asked.head], views=strand_views if model.symmetric else None,
    )  # fmt: skip


def _require_context(model: "Model", genome: "Genome", sites: Any, strand: Any, place: str) -> None:
    """Refuse a cytosine of a context that the model has not learned."""
    from melisma.genome import contexts
    from melisma.methylome import CONTEXTS

    wanted = model.record.get("contexts")
    base = genome.bases(sites.contigs[0])[sites.position[0]]
    if not wanted or base not in (ord("C"), ord("G")):
        return
    own = CONTEXTS[int(contexts(genome.bases(sites.contigs[0]), sites.position, strand)[0])]
    if own not in wanted:
        raise MelismaError(
            f"{place} is a cytosine in {own}, and the model learned {', '.join(wanted)}."
        )


def _site(genome: "Genome", place: str) -> Any:
    import numpy as np

    from melisma.sequence.predict import Sites

    contig, colon, number = place.rpartition(":")
    number = number.replace(",", "")
    if not colon or not number.isdecimal():
        raise MelismaError(f"{place!r} is no place: write contig:position, as chr22:37004512.")
    length = genome.length(contig)
    if int(number) >= length:
        raise MelismaError(f"{place} lies beyond the {length:,} bases of {contig}.")
    return Sites((contig,), np.zeros(1, np.int64), np.array([int(number)]), np.zeros(1, np.int8))
