"""The quality section: coverage, levels, PCA, correlation, and who is who."""

from html import escape

import polars as pl

from melisma.report import _figures_quality, _section_checks, _tables, _words
from melisma.report._markup import Page, calm, figure
from melisma.report._study import Groups, Study, covariates, groups


def quality(study: Study, page: Page) -> str:
    """Coverage, levels, PCA, correlation, checks and identity."""
    samples = study.table("qc_samples")
    if samples is None:
        return calm("This run holds no quality tables, so quality is not shown.")
    names = covariates(study)
    divisions = [groups(study, name) for name in names]
    asked = [g for g in divisions if g.column in {c.record.get("column") for c in study.contrasts}]
    parts = [
        _outlier_words(samples),
        _tables.sample_table(study, samples, (asked or divisions)[:3]),
    ]
    qc = study.run.get("qc", {})
    parts += [calm(str(note)) for note in qc.get("notes") or []]
    pair = []
    # Two samples have one component, which is no plane.
    if {"pc1", "pc2"} <= set(samples.columns) and not any(
        samples[name].has_nulls() for name in ("pc1", "pc2")
    ):
        colourings = list(divisions)
        if study.people:
            colourings.append(groups(study, "person"))
        drawn = _figures_quality.pca(samples, qc.get("pca_variance") or [], colourings)
        pair.append(_pca_figure(page.plot("pca", drawn), colourings))
    matrix = study.table("qc_correlation")
    if matrix is not None and matrix.height > 1:
        drawn = _figures_quality.correlation(matrix)
        low, high = (drawn.data[0][k] for k in ("zmin", "zmax"))
        note = _scale(f"{low:.2f}", f"{high:.0f}", "high") + " Alike samples stand side by side."
        plot = page.plot("correlation", drawn, square=True)
        pair.append(figure("Correlation of levels", plot, note=note))
    parts.append(f'<div class="pair">{"".join(pair)}</div>')
    parts.append(_levels(study, page, divisions))
    parts.append(_section_checks.measures(study, page))
    parts.append(_section_checks.checks(study))
    parts.append(identity(study, page))
    return "".join(parts)


def _outlier_words(samples: pl.DataFrame) -> str:
    if samples["outlier"].is_null().all():
        return ""
    found = samples.filter(pl.col("outlier"))["sample"].to_list()
    if not found:
        return "<p>No sample stands apart from the others.</p>"
    verb = "stands" if len(found) == 1 else "stand"
    words = f"{_words.counted(len(found), 'sample')} {verb} apart: {_words.listed(found)}."
    return f"<p>{escape(words)} The reason is in the table.</p>"


def _pca_figure(plot: str, colourings: list[Groups]) -> str:
    options = "".join(
        f'<option value="{escape(g.column)}">{escape(_words.spoken(g.column))}</option>'
        for g in colourings
    )
    chooser = (
        f'<label class="chooser">coloured by <select data-colours="pca">{options}</select></label>'
        if options
        else ""
    )
    key = '<p class="key" data-key="pca"></p>' if options else ""
    return figure(f"Principal components {chooser}", plot + key)


def _scale(low: str, high: str, kind: str) -> str:
    return f'<span class="scale">{escape(low)}<i class="ramp {kind}"></i>{escape(high)}</span>'


def _levels(study: Study, page: Page, divisions: list[Groups]) -> str:
    table = study.table("qc_levels")
    if table is None or table.select("contig", "context").n_unique() < 2 or not divisions:
        return ""
    drawn = _figures_quality.levels(table, divisions[0], study.samples)
    key = " ".join(
        _tables.swatch(label, divisions[0].colours[label]) for label in divisions[0].order
    )
    plot = page.plot("levels", drawn)
    return figure("Level by contig", plot + f'<p class="key">{key}</p>')


def identity(study: Study, page: Page) -> str:
    """Which samples come from one person, and where that contradicts the sheet."""
    record = study.run.get("qc", {}).get("identity")
    if not record:
        return ""
    parts = ['<h3 id="identity">Who is who</h3>']
    if record.get("sentence"):
        parts.append(f'<p class="lead">{escape(str(record["sentence"]))}</p>')
    if record.get("reason"):
        parts.append(calm(str(record["reason"])))
    contradictions = record.get("contradictions") or []
    if contradictions:
        items = "".join(f"<li>{escape(str(c['sentence']))}</li>" for c in contradictions)
        noun = "contradiction" if len(contradictions) == 1 else "contradictions"
        parts.append(f'<div class="warning"><h4>Named {noun}</h4><ul>{items}</ul></div>')
    clash = [[str(s) for s in c.get("samples", [])] for c in contradictions]
    distance, pairs = study.table("identity_distance"), study.table("identity_pairs")
    drawn = []
    if distance is not None and distance.height > 1 and record.get("resolved"):
        heat = _figures_quality.identity(distance, study.people, clash)
        far = heat.data[0]["zmax"]
        note = _scale("0, alike", f"{far:.2f}, unlike", "close")
        if study.people:
            note += " Frames hold one person's samples."
        if clash:
            note += ' <span class="alert">Orange frames contradict the sheet.</span>'
        plot = page.plot("identity", heat, square=True)
        drawn.append(figure("Distance between samples", plot, note=note))
    side = _people_table(study, clash)
    if pairs is not None and not pairs.is_empty() and study.people:
        strip = _figures_quality.pair_distances(pairs, clash)
        plot = page.plot("pairs", strip)
        side = figure("How clearly pairs stand apart", plot) + side
    if drawn or side:
        parts.append(f'<div class="pair">{"".join(drawn)}<div>{side}</div></div>')
    return "".join(parts)


def _people_table(study: Study, clash: list[list[str]]) -> str:
    people = study.people
    if not people:
        return ""
    flagged = {name for pair in clash for name in pair}
    by_person: dict[str, list[str]] = {}
    for sample in study.samples:
        if sample in people:
            by_person.setdefault(people[sample], []).append(sample)
    if len(by_person) == len(people) or len(by_person) > 40:
        return ""
    rows = [
        [
            escape(person),
            ", ".join(
                f'<span class="alert">{escape(s)}</span>' if s in flagged else escape(s)
                for s in samples
            ),
        ]
        for person, samples in by_person.items()
    ]
    head = [("person", "name"), ("samples", "")]
    return _tables.html_table(head, rows, "Samples of each person")
