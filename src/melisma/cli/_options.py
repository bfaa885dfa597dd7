"""Options that several verbs take, defined once."""

from pathlib import Path
from typing import Annotated

import typer

Store = Annotated[
    Path, typer.Argument(help="A store made by `melisma ingest`.", show_default=False)
]
Formula = Annotated[
    str, typer.Option("--formula", "-f", help='The model, such as "~ cell + disease".')
]
Contrast = Annotated[
    str,
    typer.Option(
        "--contrast",
        "-c",
        help='"cell[b] - cell[a]", a factor, a coefficient such as "age", or a term such as '
        '"cell:age".',
    ),
]
Block = Annotated[
    str | None,
    typer.Option(
        help="A column of pairs, twins, families or donors; or `identity`: the people that the "
        "calls themselves tell apart."
    ),
]
DropMissing = Annotated[
    bool,
    typer.Option(
        "--drop-missing", help="Leave out samples without a value in a column that is used."
    ),
]
MarkOption = Annotated[
    str | None, typer.Option("--mark", help="Which mark, if the store has several: 5mC, 5hmC, 6mA.")
]
Level = Annotated[float, typer.Option("--q", min=0.0, max=1.0, help="False discovery rate.")]
Output = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Write the table here: .tsv, .parquet or, regions, .bed."),
]
GenomeOption = Annotated[
    Path, typer.Option("--genome", "-g", help="FASTA or 2bit.", show_default=False)
]
EnvironmentOption = Annotated[
    list[str] | None,
    typer.Option(
        "--environment", "-e", help="tissue=brain; may be given again. Without it, the mean."
    ),
]
ModelArgument = Annotated[
    Path, typer.Argument(help="A folder made by `melisma train`.", show_default=False)
]
ModelMark = Annotated[str | None, typer.Option("--mark", help="Which of the model's marks.")]
