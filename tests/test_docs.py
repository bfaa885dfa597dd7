"""The documents say what the code does: links, verbs, options, examples, printed output."""

import re
import shlex
import shutil
import site
import subprocess
from pathlib import Path
from typing import get_args

import pytest
import typer

from melisma import datasets
from melisma.calls import FORMATS
from melisma.cli import app, main
from melisma.differential import find_regions, site_tests
from melisma.methylome import open_methylome
from melisma.study import StudyConfig, open_with_design, read_study

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").rglob("*.md")
)


def leaves(group, above=()):
    """Every command below a group by the words that call it."""
    found = {}
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            found |= leaves(command, (*above, name))
        else:
            found[" ".join((*above, name))] = command
    return found


COMMANDS = leaves(typer.main.get_command(app))
VERBS = tuple(COMMANDS)
# Verbs whose page has another name.
PAGE_OF = {"qc": "quality", "demo": "run", "score": "markers"} | dict.fromkeys(
    ("remove", "rename", "annotate-samples"), "append"
)


def page_of(verb):
    return ROOT / "docs" / f"{PAGE_OF.get(verb, verb.replace(' ', '_'))}.md"


def verb_of(arguments):
    """The verb that arguments begin with, and the rest."""
    words = 2 if " ".join(arguments[:2]) in COMMANDS else 1
    return " ".join(arguments[:words]), arguments[words:]


def name_of(page):
    return str(page.relative_to(ROOT))


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def blocks(page, *languages):
    """The contents of a page's fenced blocks in these languages."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.S | re.M)
    return [text for language, text in found if language in languages]


def commands(page):
    """(command, printed output) of every `$ command` in a page's console blocks."""
    found = []
    for block in blocks(page, "console"):
        joined = block.replace("\\\n", " ")
        for part in re.split(r"^\$ ", joined, flags=re.M)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


def melisma_commands(page):
    """(arguments, printed output) of melisma's commands; `[optional]` parts are left out."""
    return [
        (shlex.split(re.sub(r" \[[^\]\"]*\]", "", command))[1:], output)
        for command, output in commands(page)
        if re.match(r"(\.venv/bin/)?melisma ", command)
    ]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_resolve(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"(https?|mailto):", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{page.name} links to {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name} links to {link}"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_page_an_index_row_and_a_readme_example(verb):
    page = page_of(verb)
    assert f"melisma {verb}" in page.read_text(encoding="utf-8")
    assert f"({page.name}" in (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    # `run` is the demo's verb with a study of one's own: its example has no printed output.
    assert verb in {verb_of(words)[0] for words, _ in melisma_commands(ROOT / "README.md")}


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_is_on_the_verbs_page(verb):
    page = page_of(verb).read_text(encoding="utf-8")
    options = [parameter.opts for parameter in COMMANDS[verb].params if parameter.opts[0][0] == "-"]
    for names in options:
        assert any(f"`{name}`" in page or f" {name} " in page for name in names), names


EXAMPLES = [
    pytest.param(arguments, id=f"{name_of(page)}: {' '.join(arguments)[:50]}")
    for page in PAGES
    for arguments, _ in melisma_commands(page)
]


def test_there_are_examples():
    assert {verb_of(example.values[0])[0] for example in EXAMPLES} >= set(VERBS)


@pytest.mark.parametrize("arguments", EXAMPLES)
def test_every_example_parses(arguments):
    verb, rest = verb_of(arguments)
    # Raises a usage error for an unknown option, a missing argument or a value of the wrong kind.
    COMMANDS[verb].make_context(verb, list(rest))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_examples_compile(page):
    for block in blocks(page, "python"):
        compile(block, page.name, "exec")


def test_the_study_of_the_docs_is_valid(tmp_path):
    (text,) = blocks(ROOT / "docs" / "run.md", "toml")
    (tmp_path / "study.toml").write_text(text)
    assert len(read_study(tmp_path / "study.toml").design) == 2


def test_the_study_table_lists_every_key_and_default():
    text = (ROOT / "docs" / "run.md").read_text(encoding="utf-8")
    section = text.split("\n## study.toml\n")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `([a-z._]+)` \| ([^|]+) \|", section, flags=re.M))
    known = {"title": "Study"}
    for name, field in StudyConfig.model_fields.items():
        if name == "title":
            continue
        inner = [t for t in get_args(field.annotation) if hasattr(t, "model_fields")]
        model = inner[0] if inner else field.annotation
        for key, value in model.model_fields.items():
            known[f"{name}.{key}"] = "required" if value.is_required() else value.default
    words = {"None": "none", "False": "false", "": "empty", "()": "none"}
    assert rows == {key: words.get(str(value), str(value)) for key, value in known.items()}


def test_the_formats_page_lists_every_format_and_its_base():
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w[\w-]*)` \| [^|]+ \| (\d) \|", text, flags=re.M)
    assert rows == [(form.name, str(form.base)) for form in FORMATS]


@pytest.fixture(scope="module")
def demo_store(tmp_path_factory):
    """A folder as after `make demo`, as far as the README's examples read it."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "src").symlink_to(ROOT / "src")
    (folder / "melisma-demo").mkdir()
    sheet = ROOT / "src" / "melisma" / "datasets" / "lupus" / "samples.tsv"
    with pytest.raises(SystemExit) as done:
        main(["ingest", str(sheet), "-o", str(folder / "melisma-demo" / "study.zarr")])
    assert done.value.code == 0
    return folder


def lines_of(text):
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def assert_printed(shown, printed):
    """Every shown line was printed, in order and without gaps but where `…` stands."""
    printed, at, gap = lines_of(printed), 0, False
    for line in lines_of(shown):
        if line == "…":
            gap = True
            continue
        assert line in printed[at:], f"not printed: {line}"
        found = printed.index(line, at)
        assert gap or found == at, f"printed before {line!r}: {printed[at:found]}"
        at, gap = found + 1, False
    assert gap or at == len(printed), f"printed further: {printed[at:]}"


PRINTED = [
    pytest.param(arguments, output, id=f"{name_of(page)}: {' '.join(arguments)[:50]}")
    for page in PAGES
    for arguments, output in melisma_commands(page)
    if output.strip() and arguments[0] not in ("demo", "run")
]


# Folders that examples name by a shell's variable, as the README sets them.
FOLDERS = {"$glioma": datasets.folder("glioma"), "$models": Path(site.getsitepackages()[0])}


@pytest.mark.parametrize(("arguments", "output"), PRINTED)
def test_examples_print_what_is_shown(arguments, output, demo_store, capsys, monkeypatch):
    monkeypatch.chdir(demo_store)
    for k, word in enumerate(arguments):
        variable, _, rest = word.partition("/")
        if variable in FOLDERS:
            if not (FOLDERS[variable] / rest).exists():
                pytest.skip(f"{rest} is not installed")
            arguments = [*arguments[:k], str(FOLDERS[variable] / rest), *arguments[k + 1 :]]
    with pytest.raises(SystemExit) as done:
        main(arguments)
    printed = capsys.readouterr()
    assert done.value.code == (2 if "melisma: " in output else 0)
    assert_printed(output, printed.err + printed.out)


def test_the_readmes_python_prints_what_is_shown(demo_store, capsys, monkeypatch):
    monkeypatch.chdir(demo_store)
    (code,) = blocks(ROOT / "README.md", "python")
    shown = blocks(ROOT / "README.md", "text")[-1]
    exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
    assert_printed(shown, capsys.readouterr().out)


LEVELS = {
    "activated": "cell[activated_naive]",
    "resting": "cell[resting_naive]",
    "lupus": "disease[lupus]",
    "healthy": "disease[healthy]",
}


def test_the_demos_table_is_what_the_tests_find(demo_store):
    text = (ROOT / "docs" / "run.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ((?:samples|donors) \| .+ − .+) \|$", text, flags=re.M)
    assert len(rows) == 4
    for row in rows:
        name, question, units, calls, smallest, inflation, regions, null = row.split(" | ")
        high, low = question.split(" − ")
        block = "identity" if name == "donors" else None
        methylome, design = open_with_design(
            demo_store / "melisma-demo" / "study.zarr", "~ cell + disease", block
        )
        contrast = f"{LEVELS[high]} - {LEVELS[low]}"
        sites = site_tests(methylome, design, contrast)
        assert f"{sites.comparison.n_units} {sites.comparison.unit}" == units
        assert f"{len(sites.significant())} of {sites.tested:,}" == calls
        assert sites.table["q"].min() == pytest.approx(float(smallest), rel=0.03)
        assert sites.inflation == pytest.approx(float(inflation), abs=0.006)
        found = find_regions(methylome, design, contrast)
        assert f"{len(found.significant())} of {len(found.table)}" == regions
        assert found.null_words == null


def test_the_markers_page_trains_on_one_part_and_scores_the_other(
    demo_store, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "melisma-demo").symlink_to(demo_store / "melisma-demo")
    page = ROOT / "docs" / "markers.md"
    text = page.read_text(encoding="utf-8").split("\n## Train on one part, score the other\n")[1]
    example = tmp_path / "example.md"
    example.write_text(text.split("\n## ")[0], encoding="utf-8")
    printed = ""
    for command, _ in commands(example):
        name, *rest = shlex.split(command)
        if name == "cp":
            shutil.copytree(rest[1], rest[2])
            continue
        with pytest.raises(SystemExit) as done:
            main(rest)
        assert not done.value.code
        printed = capsys.readouterr().out
    assert_printed(blocks(example, "text")[0], printed)


def test_the_formats_page_turns_a_table_of_ones_own_into_a_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "calls.tsv").write_text(
        "chr\tpos\tstrand\tcontext\ttri\tM_wt\tN_wt\tM_met1\tN_met1\n"
        "Chr3\t101\t+\tCHH\tCCC\t1\t4\t0\t2\nChr3\t108\t-\tCG\tCGT\t3\t3\t0\t5\n"
    )
    (lines,) = blocks(ROOT / "docs" / "formats.md", "sh")
    *shell, ingest = lines.splitlines()
    subprocess.run(["sh", "-c", "\n".join(shell)], check=True)
    with pytest.raises(SystemExit) as done:
        main(shlex.split(ingest)[1:])
    assert not done.value.code
    made = open_methylome("study.zarr")
    assert made["methylated"].values.tolist() == [[1, 0], [3, 0]]
    assert made["coverage"].values.tolist() == [[4, 2], [3, 5]]
    assert made["position"].values.tolist() == [100, 107]
