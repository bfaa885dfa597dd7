"""Which traces a study's report shows, each computed when the run comes to them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from melisma.study import Reading, StudyConfig
    from melisma.trace import Trace

# A window of fewer bases has too few to be shuffled.
_NARROWEST = 9


def readings(study: "StudyConfig") -> "dict[str, Reading]":
    """The reading of one site, where the study reads the sequence in windows that can be."""
    section = study.sequence
    if section is None or section.width < _NARROWEST:
        return {}
    genome = section.genome or study.input.genome
    assert genome is not None

    def of_one_site(folder: Path, sequence: Mapping[str, Any] | None) -> "Trace":
        from melisma.cli._site_windows import asked_of, effects_of
        from melisma.genome import Genome
        from melisma.sequence.checkpoint import load
        from melisma.trace.site import site_trace

        assert sequence is not None
        site = sequence["site"]
        model = load(folder / "model")
        asked = asked_of(model, Genome.open(genome), site["place"], None, 20, section.seed)
        trace = site_trace(effects_of(model, asked, {}), about=asked.about)
        told = {"note": _note(site), "measured_level": site["measured"]}
        return replace(trace, about={**trace.about, **told})

    return {"One site, as the model reads it": of_one_site}


def _note(site: Mapping[str, Any]) -> str:
    """How the site was chosen, and what was measured there."""
    kind = "lone CpGs between A or T" if site["lone"] else "sites"
    return (
        f"Of {site['among']:,} {kind} of the test part, {site['place']} is the one whose predicted "
        f"level departs most from their mean of {site['mean']:.0%}: predicted {site['level']:.0%}, "
        f"measured {site['measured']:.0%}. It was chosen for that, and is no example of the rest."
    )


def glioma_chain(*_: Any) -> "Trace":
    """From a mutated IDH gene through the built-in gliomas' CpGs to their survival."""
    import polars as pl

    from melisma import datasets
    from melisma.trace.study import Question, read_mediators, trace_study

    folder = datasets.folder("glioma")
    sheet = pl.read_csv(folder / "samples.tsv", separator="\t")
    mediators = read_mediators(folder / "betas.tsv.gz", known=set(sheet["sample"]))
    question = Question(
        "idh=Mutant", time="survival_months", event="dead", covariates=("age", "sex", "platform")
    )
    trace = trace_study(sheet, mediators, question, bootstraps=200).trace
    note = (
        "560 gliomas of TCGA and the 60 CpGs that vary most among them: association consistent "
        "with mediation, under the assumptions below."
    )
    return replace(trace, about={**trace.about, "note": note})
