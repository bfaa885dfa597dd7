"""Train a small translator from scratch, and ask it which word it read for each word it wrote.

    python examples/translate.py pairs.tsv --out translator            # train, at most 30 minutes
    python examples/translate.py pairs.tsv --out translator --score    # BLEU, and the control
    python examples/translate.py --out translator --sentence "The cat sat on the mat."  # why

`pairs.tsv` has two columns, a sentence and its translation; more columns are left aside, and a .zip
is read for its one text that has them (Tatoeba's, for one). Sentences that are the same but for
case and punctuation stay on one side of the split, with all their translations.
"""

import argparse
import io
import json
import random
import re
import time
import unicodedata
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import MarianConfig, MarianMTModel, PreTrainedTokenizerFast
from transformers.utils import logging

# Held out whatever the split, so that what is shown was never trained on.
DEMO = ("The cat sat on the mat.", "The dog is sleeping on the red chair.")
VALIDATION, TEST = 500, 1000  # source sentences
WORDS = 6000  # of the byte-pair vocabulary
MOST_TOKENS = 40
TOKENS_A_BATCH = 2500
RATE, WARM_UP, SMOOTHING = 2e-3, 300, 0.1


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """(source, target) of a table's first two columns."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            texts = [io.TextIOWrapper(archive.open(n), "utf-8").read() for n in archive.namelist()]
        text = max(texts, key=lambda each: each.count("\t"))
    else:
        text = path.read_text(encoding="utf-8")
    rows = (line.split("\t") for line in text.splitlines())
    pairs = [(row[0].strip(), row[1].strip()) for row in rows if len(row) > 1 and row[0] and row[1]]
    if len(pairs) < 10 * (VALIDATION + TEST):
        raise SystemExit(f"{path} holds {len(pairs)} pairs of sentences: too few to train on.")
    return pairs


def normalised(sentence: str) -> str:
    """A sentence without case, accents of writing and punctuation."""
    plain = unicodedata.normalize("NFKC", sentence).lower()
    return " ".join(re.findall(r"\w+", plain))


def split_pairs(
    pairs: list[tuple[str, str]], *, seed: int = 1, validation: int = VALIDATION, test: int = TEST
) -> dict[str, list[tuple[str, str]]]:
    """Train, validation and test by normalised source sentence, the demo's in none of them."""
    by_sentence: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for pair in dict.fromkeys(pairs):
        by_sentence[normalised(pair[0])].append(pair)
    for sentence in DEMO:
        by_sentence.pop(normalised(sentence), None)
    keys = sorted(by_sentence)
    random.Random(seed).shuffle(keys)
    cuts = {"test": keys[:test], "validation": keys[test : test + validation]}
    cuts["train"] = keys[test + validation :]
    return {name: [p for key in some for p in by_sentence[key]] for name, some in cuts.items()}


def train_tokenizer(train: list[tuple[str, str]]) -> PreTrainedTokenizerFast:
    """One byte-pair vocabulary for both languages, of the training sentences."""
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    made.decoder = decoders.ByteLevel()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(vocab_size=WORDS, special_tokens=special, show_progress=False)
    made.train_from_iterator((side for pair in train for side in pair), trainer)
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def new_model() -> MarianMTModel:
    """About 3 million parameters: two layers a side, four heads, one table of vectors."""
    config = MarianConfig(
        vocab_size=WORDS, d_model=192, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=768,
        decoder_ffn_dim=768, max_position_embeddings=MOST_TOKENS + 8, dropout=0.1,
        scale_embedding=True, activation_function="gelu", pad_token_id=0, eos_token_id=1,
        bos_token_id=1, decoder_start_token_id=0, forced_eos_token_id=None,
        share_encoder_decoder_embeddings=True, tie_word_embeddings=True,
    )  # fmt: skip
    return MarianMTModel(config)


def padded(rows: list[list[int]], pad: int) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [pad] * (longest - len(row)) for row in rows])


def batch_of(rows: list[tuple[list[int], list[int]]]) -> dict[str, torch.Tensor]:
    """What the model is trained on: sources, their mask, targets with -100 for padding."""
    sources = padded([source for source, _ in rows], 0)
    labels = padded([target for _, target in rows], -100)
    return {"input_ids": sources, "attention_mask": (sources != 0).long(), "labels": labels}


def batches(rows: list[tuple[list[int], list[int]]], rng: random.Random) -> list[list[int]]:
    """Rows of like length together, as many as fit in a batch, in random order."""
    order = sorted(range(len(rows)), key=lambda k: (len(rows[k][1]), len(rows[k][0]), rng.random()))
    found: list[list[int]] = [[]]
    longest = 0
    for k in order:
        longest = max(longest, len(rows[k][0]), len(rows[k][1]))
        if found[-1] and longest * (len(found[-1]) + 1) > TOKENS_A_BATCH:
            found.append([])
            longest = max(len(rows[k][0]), len(rows[k][1]))
        found[-1].append(k)
    rng.shuffle(found)
    return found


def train(pairs: list[tuple[str, str]], out: Path, *, minutes: float, seed: int) -> dict[str, Any]:
    """Train until the time is up, the rate falling to zero with it, and save."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    parts = split_pairs(pairs, seed=seed)
    tokenizer = train_tokenizer(parts["train"])
    sides = [tokenizer([p[k] for p in parts["train"]])["input_ids"] for k in (0, 1)]
    rows = [r for r in zip(*sides, strict=True) if max(map(len, r)) <= MOST_TOKENS]
    model = new_model().train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    # Processor time by thread: what the clock says on a machine that does nothing else.
    threads = torch.get_num_threads()
    began, clock, step, epoch, lately = time.process_time(), time.monotonic(), 0, 0, 0.0
    share = 0.0
    while share < 1:
        epoch += 1
        for some in batches(rows, rng):
            share = (time.process_time() - began) / (60 * minutes * threads)
            if share >= 1:
                break
            step += 1
            for group in optimiser.param_groups:
                group["lr"] = RATE * min(step / WARM_UP, 1.0) * max(1 - share, 0.0) ** 0.5
            told = batch_of([rows[k] for k in some])
            logits = model(**told).logits
            loss = loss_of(logits.flatten(0, 1), told["labels"].flatten())
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            lately = (
                0.99 * lately + 0.01 * float(loss.detach()) if step > 1 else float(loss.detach())
            )
            if step % 100 == 0:
                print(
                    f"epoch {epoch} step {step} loss {lately:.3f} {share:.0%} of the time",
                    flush=True,
                )
    model.eval().save_pretrained(out)
    tokenizer.save_pretrained(out)
    told = {
        "seed": seed, "epochs": epoch, "steps": step,
        "clock_minutes": (time.monotonic() - clock) / 60,
        "processor_minutes": (time.process_time() - began) / 60, "threads": threads,
        "parameters": sum(p.numel() for p in model.parameters()), "train_pairs": len(rows),
        "loss": lately,
    }  # fmt: skip
    (out / "training.json").write_text(json.dumps(told, indent=1) + "\n")
    return told


def open_translator(out: Path) -> tuple[MarianMTModel, PreTrainedTokenizerFast]:
    """What `train` saved."""
    if not (out / "model.safetensors").is_file():
        raise SystemExit(f"There is no translator in {out}: train one first.")
    model = MarianMTModel.from_pretrained(out, local_files_only=True).eval()
    return model, PreTrainedTokenizerFast.from_pretrained(out, local_files_only=True)


def translate(model: Any, tokenizer: Any, sentences: list[str]) -> list[str]:
    """Translations by beams of four."""
    found: list[str] = []
    for k in range(0, len(sentences), 64):
        told = batch_of([(row, [1]) for row in tokenizer(sentences[k : k + 64])["input_ids"]])
        with torch.no_grad():
            rows = model.generate(
                input_ids=told["input_ids"], attention_mask=told["attention_mask"], num_beams=4,
                max_new_tokens=MOST_TOKENS, do_sample=False,
            )  # fmt: skip
        found += [t.strip() for t in tokenizer.batch_decode(rows, skip_special_tokens=True)]
    return found


def bleu(
    model: Any, tokenizer: Any, test: list[tuple[str, str]], *, seed: int = 1
) -> dict[str, float]:
    """BLEU against every translation of each test sentence, and with the sources shuffled."""
    import sacrebleu

    references: dict[str, list[str]] = defaultdict(list)
    source: dict[str, str] = {}
    for english, french in test:
        references[normalised(english)].append(french)
        source.setdefault(normalised(english), english)
    keys = sorted(references)
    told = translate(model, tokenizer, [source[key] for key in keys])
    most = max(map(len, references.values()))
    columns = [[(references[k] + [None] * most)[j] for k in keys] for j in range(most)]
    other = [*range(1, len(keys)), 0]
    order = list(range(len(keys)))
    random.Random(seed).shuffle(order)
    shuffled = [told[order[other[order.index(k)]]] for k in range(len(keys))]
    scores = [sacrebleu.corpus_bleu(each, columns).score for each in (told, shuffled)]
    return {"model": scores[0], "shuffled": scores[1], "sentences": len(keys)}


def explain(out: Path, sentence: str) -> None:
    """Print a translation and the words behind each of its words; draw them in sentence.html."""
    from melisma.report import write_traces
    from melisma.trace.alignment import trace_translation, translated
    from melisma.trace.models import load_text_model

    model, tokenizer = open_translator(out)
    (told,) = translate(model, tokenizer, [sentence])
    print(told)
    opened = load_text_model(out)
    pair = translated(opened, sentence, told)
    traces = {}
    for k, word in enumerate(pair.target.words):
        trace = traces[f"{k + 1} {word}"] = trace_translation(opened, pair, k)
        first = sorted(
            (node for node in trace.nodes if node.layer == 0), key=lambda node: -(node.value or 0)
        )
        behind = ", ".join(f"{node.name} {node.value:+.2f}" for node in first[:3])
        print(f"{word:>12}  {behind}  (nats; {trace.completeness:.0%} of {trace.total:+.2f})")
    write_traces(traces, out / "sentence.html", f"{sentence} {told}")
    print(f"Drawn: {out / 'sentence.html'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("pairs", type=Path, nargs="?", help="two columns: sentence, translation")
    parser.add_argument("--out", type=Path, required=True, help="the translator's folder")
    parser.add_argument(
        "--minutes", type=float, default=30, help="of training: processor time by thread"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--score", action="store_true", help="BLEU of the test sentences")
    parser.add_argument("--sentence", help="translate it and show the words behind each word")
    chosen = parser.parse_args()
    logging.disable_progress_bar()
    if chosen.sentence is None and chosen.pairs is None:
        parser.error("give a file of pairs, or --sentence")
    if chosen.sentence is None and not chosen.score:
        print(json.dumps(train(read_pairs(chosen.pairs), chosen.out, minutes=chosen.minutes,
                               seed=chosen.seed)))  # fmt: skip
    if chosen.sentence is not None:
        explain(chosen.out, chosen.sentence)
    if chosen.score:
        if chosen.pairs is None:
            parser.error("--score needs the file of pairs that it was trained on")
        test = split_pairs(read_pairs(chosen.pairs), seed=chosen.seed)["test"]
        print(json.dumps(bleu(*open_translator(chosen.out), test)))


if __name__ == "__main__":
    main()
