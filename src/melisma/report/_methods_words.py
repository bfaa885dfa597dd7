"""What was done, in paragraphs, with the literature that they refer to."""

from html import escape

from melisma.report import _words
from melisma.report._study import Study

_REFERENCES = {
    "quasi": (
        "McCullagh P (1983). Quasi-likelihood functions. Annals of Statistics 11, 59–67.",
        "10.1214/aos/1176346056",
    ),
    "m_values": (
        "Du P, Zhang X, Huang C-C, Jafari N, Kibbe WA, Hou L, Lin SM (2010). Comparison of "
        "Beta-value and M-value methods for quantifying methylation levels by microarray "
        "analysis. BMC Bioinformatics 11, 587.",
        "10.1186/1471-2105-11-587",
    ),
    "rotations": (
        "Langsrud Ø (2005). Rotation tests. Statistics and Computing 15, 53–60.",
        "10.1007/s11222-005-4789-5",
    ),
    "squeeze": (
        "Smyth GK (2004). Linear models and empirical Bayes methods for assessing differential "
        "expression in microarray experiments. Statistical Applications in Genetics and "
        "Molecular Biology 3, 3.",
        "10.2202/1544-6115.1027",
    ),
    "mover": (
        "Zou GY, Donner A (2008). Construction of confidence limits about effect measures: a "
        "general approach. Statistics in Medicine 27, 1693–1702.",
        "10.1002/sim.3095",
    ),
    "bh": (
        "Benjamini Y, Hochberg Y (1995). Controlling the false discovery rate: a practical and "
        "powerful approach to multiple testing. Journal of the Royal Statistical Society B 57, "
        "289–300.",
        "10.1111/j.2517-6161.1995.tb02031.x",
    ),
    "permute": (
        "Winkler AM, Ridgway GR, Webster MA, Smith SM, Nichols TE (2014). Permutation inference "
        "for the general linear model. NeuroImage 92, 381–397.",
        "10.1016/j.neuroimage.2014.01.060",
    ),
}


class _Cited:
    """References in the order in which they are first named."""

    def __init__(self) -> None:
        self._keys: list[str] = []

    def __call__(self, key: str) -> str:
        if key not in self._keys:
            self._keys.append(key)
        return f"ref. {self._keys.index(key) + 1}"

    def items(self) -> str:
        return "".join(
            f'<li>{escape(text)} <a href="https://doi.org/{doi}">doi:{doi}</a></li>'
            for text, doi in (_REFERENCES[key] for key in self._keys)
        )


def paragraphs(study: Study) -> tuple[list[str], str]:
    """The steps of a study as HTML paragraphs, and the items of their list of references."""
    cite = _Cited()
    texts = [_data(study), _quality(study)]
    if any(c.sites is not None for c in study.contrasts):
        texts.append(_levels(study, cite) if study.levels_only else _counts(cite))
        texts.append(_several(study))
    texts += [_regions(study, cite), _annotation(study)]
    return [text for text in texts if text], cite.items()


def _data(study: Study) -> str:
    run = study.run
    genome = run.get("genome")
    named = (genome or {}).get("name", "") if isinstance(genome, dict) else str(genome or "")
    checked = (
        f"checked against the genome {escape(named)}" if named else "not checked against a genome"
    )
    what = "Levels without counts" if study.levels_only else "Calls"
    return (
        f"{what} of {escape(str(run.get('mark', '5mC')))} were read from "
        f"{_words.count(len(run.get('inputs') or []), 'input file')} and {checked}. Positions are "
        "0-based and regions half open, so a region's start is one less than a browser shows."
    )


def _quality(study: Study) -> str:
    text = "Samples were compared by the principal components and the correlation of their levels."
    if study.run.get("qc", {}).get("identity", {}).get("sites"):
        text += (
            " Genotype-like sites, where levels fall near 0, one half and 1, give a distance "
            "between samples that finds those of one person without knowing any label."
        )
    if study.table("qc_checks") is None:
        return text
    if study.levels_only:
        return f"{text} R² of all variance has a p-value by permutation, R² of a component by F."
    return (
        f"{text}</p><p>Failed conversion is the methylated share of an unmethylated control's "
        "cytosines, with Wilson's interval, or CHH's as an upper bound. Sex is told by the median "
        "depth of chrX and chrY against the autosomes. Strands are compared by a Mantel-Haenszel "
        "difference over CpGs. Saturation below all reads is the exact expectation of random "
        "thinning, and above them a Poisson mixture fitted to the depths. R² of all variance "
        "has a p-value by permutation, R² of a component by its F test."
    )


def _counts(cite: _Cited) -> str:
    return (
        "Each site was tested with a quasi-binomial score test on the design matrix "
        f"({cite('quasi')}): counts vary by sampling and by an overdispersion shared across "
        "sites; what a site adds of its own enters once, through its residual variance squeezed "
        f"across sites ({cite('squeeze')}). Differences in level are weighted proportions, their "
        f"interval joined from the groups' Wilson intervals ({cite('mover')}). Sites that are "
        "alike in all samples, or carry too few reads of the rarer state, were not tested. "
        f"q-values are Benjamini and Hochberg's ({cite('bh')})."
    )


def _levels(study: Study, cite: _Cited) -> str:
    priors = sorted(
        {
            f"{c.record['sites']['prior_df']:.3g}"
            for c in study.contrasts
            if c.record.get("sites", {}).get("prior_df") is not None
        }
    )
    worth = f" The prior is worth {_words.listed(priors)} degrees of freedom." if priors else ""
    return (
        "Each site was tested with a linear model of M-values, log<sub>2</sub>(β / (1 − β)), with "
        f"β kept 0.001 from 0 and 1 ({cite('m_values')}), on the design matrix. A site's residual "
        "variance is squeezed towards a smooth function of the sites' mean M-value, as limma does "
        f"with a trend ({cite('squeeze')}).{worth} Differences and their intervals are of the "
        "levels themselves, by the same model and a trend of their own. A sample without a value "
        "at a site is left out there; sites with too few values to tell the contrast were not "
        f"tested. q-values are Benjamini and Hochberg's ({cite('bh')})."
    )


def _several(study: Study) -> str:
    if not any(c.joint for c in study.contrasts):
        return ""
    return (
        "Where a question is about several coefficients at once, such as all levels of a factor, "
        "the statistic is F and has no direction: shown is the largest difference between two "
        "levels, and between which, without an interval."
    )


def _regions(study: Study, cite: _Cited) -> str:
    tested = [c for c in study.contrasts if c.regions is not None]
    nulls = {c.null_noun for c in tested if not c.record["regions"].get("given")}
    texts = []
    if nulls:
        texts.append(
            "Candidate regions are stretches where the smoothed signed statistic stays high, "
            "judged against the same search on data without the effect, with called regions "
            "masked so that they do not count as chance."
        )
        if any(c.joint for c in tested):
            texts.append(
                "Of several coefficients at once the statistics are smoothed one by one, and the "
                "length of their vector is what stays high."
            )
    if "relabelling" in nulls:
        texts.append(
            "These are relabelled data, the exposure moved between exchangeable units after the "
            f"other terms were taken out ({cite('permute')})."
        )
    if "rotation" in nulls:
        texts.append(
            "Designs that allow fewer than 200 relabellings are judged against rotated data: "
            "whitened residuals, turned at random within the space that the model's other terms "
            f"leave ({cite('rotations')})."
        )
    if "exchange of reads" in nulls:
        texts.append(
            "<strong>Without replicates</strong> reads were exchanged between the two levels, and "
            "the dispersion is that of neighbouring sites: how samples of one level differ along "
            "whole stretches is not in these q-values."
        )
    if nulls:
        texts.append(
            "A region's q says that some site in it differs; it does not vouch for its borders."
        )
    given = {c.record["regions"].get("given") for c in tested} - {None}
    if given:
        texts.append(
            f"Given regions ({escape(_words.listed(sorted(given)))}) were each tested by the "
            "information-weighted sum of their sites' scores, with the variance of the same sum "
            f"of residuals, squeezed across regions ({cite('squeeze')}); q-values are Benjamini "
            f"and Hochberg's ({cite('bh')})."
        )
    return " ".join(texts)


def _annotation(study: Study) -> str:
    if not any(
        "location" in t.columns or "island_relation" in t.columns
        for c in study.contrasts
        for t in (c.sites, c.regions)
        if t is not None
    ):
        return ""
    return (
        "A place that lies in several features is given the first that applies of promoter (to "
        "1,000 bases before a transcription start), untranslated region, coding sequence, exon and "
        "intron. The nearest gene is not the regulated gene."
    )
