"""Language models from a local folder, wrapped: safetensors or GGUF, never a pickle.

Nothing is downloaded. A GGUF file's weights are read back to 32-bit floats, so what is traced is
the quantised model with its rounding in it, and `about` says so.
"""

import json
import struct
from pathlib import Path
from typing import Any, NamedTuple

from melisma._extras import require
from melisma.errors import MelismaError
from melisma.network import Network
from melisma.network_adapters import adapter_of

_PICKLES = ("pytorch_model.bin", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_UNREADABLE = (OSError, ValueError, KeyError, RuntimeError, IndexError, struct.error)
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.txt", "vocab.json", "spiece.model")


class TextModel(NamedTuple):
    """A language model and what makes tokens of a text.

    network : the model, wrapped, in evaluation mode, 32-bit floats
    tokenizer : of the same folder; None where it has none
    about : folder's name, kind of model, how its weights were stored, fingerprint
    """

    network: Network
    tokenizer: Any
    about: dict[str, Any]

    def tokens(self, text: str) -> tuple[str, ...]:
        """The tokens of a text as they are read, special ones included.

        Raises
        ------
        MelismaError
            The model has no tokenizer, or the text has no token.
        """
        numbers = self.numbers(text)
        return tuple(self.tokenizer.decode([k]) for k in numbers)

    def numbers(self, text: str) -> list[int]:
        """The tokens' numbers; see `tokens`."""
        if self.tokenizer is None:
            raise MelismaError(
                f"{self.about['model']} has no tokenizer (tokenizer.json), so it reads no text: "
                "save the tokenizer of the model in its folder."
            )
        numbers = list(self.tokenizer(text)["input_ids"])
        if not numbers:
            raise MelismaError("The text is empty: give one word at least.")
        return numbers


def load_text_model(path: Path | str) -> TextModel:
    """Open a language model of a local folder, or of one GGUF file.

    Parameters
    ----------
    path : a folder with config.json, *.safetensors and a tokenizer; a folder with one *.gguf; or a
        .gguf file

    Raises
    ------
    MelismaError
        There is no model, its weights are only a pickle, or it cannot be read.
    """
    require("text", "transformers", what="Reading a language model")
    path = Path(path)
    if not path.exists():
        raise MelismaError(f"There is no model folder at {path}.")
    quantised = path.suffix == ".gguf" or (path.is_dir() and bool(list(path.glob("*.gguf"))))
    if quantised and not (path / "config.json").is_file():
        return _from_gguf(path)
    if not path.is_dir():
        raise MelismaError(f"{path} is no model: give a folder with config.json, or a .gguf file.")
    if not (path / "config.json").is_file():
        raise MelismaError(f"{path} has no config.json and no .gguf file, so it is no model.")
    if not list(path.glob("*.safetensors")):
        _refuse_pickle(path)
    with _quiet():
        import torch
        import transformers
        from safetensors import SafetensorError

        try:
            told = json.loads((path / "config.json").read_text())
            named = getattr(transformers, (told.get("architectures") or ["AutoModel"])[0], None)
            module = (named or transformers.AutoModelForCausalLM).from_pretrained(
                path, local_files_only=True, use_safetensors=True, dtype=torch.float32
            )
        except (*_UNREADABLE, SafetensorError) as error:
            raise MelismaError(f"{path} cannot be opened as a model: {_first(error)}") from None
        tokenizer = None
        if any((path / name).is_file() for name in _TOKENIZERS):
            tokenizer = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True)
    return _wrapped(module, tokenizer, path.name, "safetensors")


def _from_gguf(path: Path) -> TextModel:
    require("text", "gguf", what="Reading a GGUF file")
    files = sorted(path.glob("*.gguf")) if path.is_dir() else [path]
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise MelismaError(f"{path} holds {len(files)} GGUF files ({names}): name one.")
    if not files[0].is_file():
        raise MelismaError(f"There is no GGUF file at {path}.")
    with _quiet():
        import torch
        import transformers

        where = {"gguf_file": files[0].name, "local_files_only": True}
        try:
            module: Any = transformers.AutoModelForCausalLM.from_pretrained(
                files[0].parent, dtype=torch.float32, **where
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(files[0].parent, **where)
        except _UNREADABLE as error:
            raise MelismaError(f"{files[0]} cannot be opened: {_first(error)}") from None
    # It is a model of 32-bit floats from here on, and is saved as one.
    module.hf_quantizer = None
    if hasattr(module.config, "quantization_config"):
        del module.config.quantization_config
    return _wrapped(module, tokenizer, files[0].name, "GGUF, read back to 32-bit floats")


def _wrapped(module: Any, tokenizer: Any, name: str, stored: str) -> TextModel:
    module.eval()
    network = Network(module, adapter_of(module, tokenizer))
    about = {
        "model": name, "kind": module.config.model_type, "weights": stored,
        "vocabulary": int(module.config.vocab_size),
        "parameters": sum(p.numel() for p in module.parameters()),
        "fingerprint": network.fingerprint(),
    }  # fmt: skip
    return TextModel(network, tokenizer, about)


def _refuse_pickle(path: Path) -> None:
    pickles = sorted({file.name for shape in _PICKLES for file in path.glob(shape)})
    if not pickles:
        raise MelismaError(f"{path} has no weights: no .safetensors file is in it.")
    raise MelismaError(
        f"{path} holds its weights only as a pickle ({pickles[0]}), which can run any code when it "
        "is opened: where you trust it, open it once with transformers and save it again with "
        "save_pretrained, which writes model.safetensors."
    )


class _quiet:
    """Loading bars and notices of transformers are not the user's; they come back after."""

    def __enter__(self) -> None:
        from transformers.utils import logging

        self._level = logging.get_verbosity()
        self._bars = logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()

    def __exit__(self, *_: object) -> None:
        from transformers.utils import logging

        logging.set_verbosity(self._level)
        if self._bars:
            logging.enable_progress_bar()


def _first(error: Exception) -> str:
    """The first sentence of an error, without line breaks."""
    return " ".join(str(error).split())[:200].split(". ")[0].rstrip(".") + "."


__all__ = ["TextModel", "load_text_model"]
