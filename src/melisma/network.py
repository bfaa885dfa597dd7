"""See and change what flows through a torch module: the one place where hooks are registered.

Sequence models, traces and marks share it. An adapter names what flows (`layer.3.head.5`,
`layer.3.residual`); a run records named values, edits them on the way, starts from an embedding of
one's own or from the state that enters a block. Whatever happens, the module is left as it was.
Order at one place: attached handles, the oldest first; then the run's edits; then what is kept.
"""

import difflib
import fnmatch
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, is_dataclass
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from melisma.errors import MelismaError


class Place(NamedTuple):
    """Where in a network: a field's name, and one token or base of it; None for all of them."""

    name: str
    position: int | None = None


Edit = Callable[[Tensor, Place], Tensor]
"""From (batch, position, width) to a new tensor of the same shape."""

_NOT_OF_THE_NETWORK = ("_name_or_path", "transformers_version")

Metric = Callable[[Any, dict[str, Any]], Tensor]
"""From a run's output and its batch to one number a row, (batch,)."""


class Field(NamedTuple):
    """One named activation.

    module : path of the module in the network
    side : "input", where `read` and `write` are given (args, kwargs), or "output"
    read : takes the (batch, position, width) tensor out
    write : (value of the side, new tensor) -> the side with the tensor in its place
    """

    module: str
    side: Literal["input", "output"]
    read: Callable[[Any], Tensor]
    write: Callable[[Any, Tensor], Any]


class Adapter(Protocol):
    """What is known of a family of networks; see `melisma.network_adapters`."""

    fields: Mapping[str, Field]
    blocks: tuple[str, ...]
    # Blocks take (batch, channels, position), and all of them follow each other.
    channels_first: bool
    # What the first block returns besides the state is every other's too (T5's position biases).
    first_returns_for_all: bool

    def encode(self, inputs: Any) -> dict[str, Any]:
        """Inputs as the keyword arguments of `forward`."""
        ...

    def embed(self, batch: Mapping[str, Any]) -> Tensor:
        """The differentiable input of a batch: (batch, position, width)."""
        ...

    def embedded(self, batch: Mapping[str, Any], value: Tensor) -> dict[str, Any]:
        """The batch with `value` in place of what `embed` returns."""
        ...


class Run(NamedTuple):
    """What a run returned.

    output : of the module
    kept : the values asked for, (batch, position, width) each
    blocks : the state that enters each block, (batch, position, width), in the adapter's order; of
        blocks that `start` left out, nothing: a tensor without numbers
    """

    output: Any
    kept: dict[Place, Tensor]
    blocks: tuple[Tensor, ...]


class Handle:
    """Edits that stay until they are removed, also when the module is called by itself.

    Attributes
    ----------
    enabled : off, the module's outputs are bit for bit its own
    rows : int64, the rows of the batch that are edited; None for all
    trainable : the module whose parameters the edits use, if any
    """

    def __init__(self, edits: Mapping[Place, Edit], trainable: nn.Module | None) -> None:
        self.edits = dict(edits)
        self.trainable = trainable
        self.enabled = True
        self.rows: Tensor | None = None
        self._stack = ExitStack()

    def remove(self) -> None:
        """Take the edits out of the module."""
        self._stack.close()


class Network:
    """A torch module whose values have names.

    Parameters
    ----------
    module : any torch module
    adapter : None takes the one that fits: melisma's models, BERT, GPT-2, Llama, T5 and Marian, and
        for anything else every module's output by its path
    """

    def __init__(self, module: nn.Module, adapter: Adapter | None = None) -> None:
        from melisma.network_adapters import adapter_of

        self.module = module
        self.adapter: Adapter = adapter_of(module) if adapter is None else adapter
        self._modules = dict(module.named_modules())

    def places(self, pattern: str = "*") -> tuple[Place, ...]:
        """The places whose names fit a pattern such as `layer.*.head.*`."""
        return tuple(Place(n) for n in self.adapter.fields if fnmatch.fnmatchcase(n, pattern))

    def run(
        self,
        batch: Any,
        *,
        keep: Iterable[Place] = (),
        edits: Mapping[Place, Edit] | None = None,
        embedded: Tensor | None = None,
        start: tuple[int, Tensor] | None = None,
        grad: bool = False,
    ) -> Run:
        """One forward pass.

        Parameters
        ----------
        batch : inputs, or keyword arguments of `forward`, as the adapter's `encode` takes them
        keep : places to record, after all edits
        edits : by place; each returns a new tensor of the shape that it is given
        embedded : what stands in place of `adapter.embed(batch)`
        start : a block's number and the state that enters it, as in `Run.blocks`; blocks before it
            in the same stack are not computed
        grad : record gradients

        Raises
        ------
        MelismaError
            A place is not there or not reached, an edit returns another shape or changes its
            input in place, or a module of an edited place is called twice in one pass.
        """
        kwargs = self.adapter.encode(batch)
        if embedded is not None:
            expected = self.adapter.embed(kwargs).shape
            if embedded.shape != expected:
                raise MelismaError(
                    f"The embedded input has the shape {tuple(embedded.shape)} and must have "
                    f"{tuple(expected)}."
                )
            kwargs = self.adapter.embedded(kwargs, embedded)
        asked = dict(edits or {})
        kept: dict[Place, Tensor] = {}
        wanted = tuple(keep)
        states: dict[str, Tensor] = {}
        left_out = self.before(start[0]) if start is not None else []
        for place in (*asked, *wanted):
            self._require_reached(place, left_out)
        with ExitStack() as stack:
            stack.enter_context(torch.set_grad_enabled(grad))
            stack.enter_context(_averages_kept(self.module))
            if start is not None:
                stack.enter_context(self._started(*start))
            for name in self.adapter.blocks:
                if name not in left_out:
                    stack.enter_context(self._hook(name, "input", self._remember(states, name)))
            for key, places in self._by_module((*asked, *wanted)).items():
                worker = self._worker(key[0], places, asked, wanted, kept, grad=grad)
                stack.enter_context(self._hook(*key, worker))
            output = self.module(**kwargs)
        missed = [place for place in (*asked, *wanted) if place not in kept]
        if missed:
            raise MelismaError(f"{missed[0].name} was not reached by this input.")
        blocks = tuple(states.get(name, torch.empty(0)) for name in self.adapter.blocks)
        return Run(output, {place: kept[place] for place in wanted}, blocks)

    def attach(self, edits: Mapping[Place, Edit], *, trainable: nn.Module | None = None) -> Handle:
        """Edits that stay in the module until the handle removes them.

        Raises
        ------
        MelismaError
            A place is not there.
        """
        handle = Handle(edits, trainable)
        for (name, side), places in self._by_module(handle.edits).items():
            handle._stack.enter_context(self._hook(name, side, self._attached(handle, places)))
        return handle

    def fingerprint(self) -> str:
        """SHA-256 of the weights and the configuration."""
        found = hashlib.sha256()
        config = getattr(self.module, "config", None)
        if config is not None:
            told = config.to_dict() if hasattr(config, "to_dict") else config
            told = asdict(told) if is_dataclass(told) and not isinstance(told, type) else told
            if isinstance(told, dict):  # where and by what it was saved is not what it is
                told = {k: v for k, v in told.items() if k not in _NOT_OF_THE_NETWORK}
            found.update(json.dumps(told, sort_keys=True, default=str).encode())
        for name, value in self.module.state_dict().items():
            found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            flat = value.detach().cpu().contiguous().view(-1)
            found.update(flat.view(torch.uint8).numpy().tobytes())
        return found.hexdigest()

    def verify(self, batch: Any) -> None:
        """Run with every place read and written back as it is, and compare with the bare module.

        Raises
        ------
        MelismaError
            An output differs in any bit.
        """
        kwargs = self.adapter.encode(batch)
        training = self.module.training
        self.module.eval()
        try:
            with torch.no_grad():
                bare = _tensors(self.module(**kwargs))
            same = dict.fromkeys(self.places(), _same)
            wrapped = _tensors(self.run(batch, edits=same).output)
        finally:
            self.module.train(training)
        for a, b in zip(bare, wrapped, strict=True):
            if not torch.equal(a, b):
                raise MelismaError("The wrapped network's output differs from the bare one's.")

    def _field(self, place: Place) -> Field:
        found = self.adapter.fields.get(place.name)
        if found is None:
            near = difflib.get_close_matches(place.name, self.adapter.fields, 1, cutoff=0.0)
            hint = f": did you mean {near[0]!r}?" if near else "."
            raise MelismaError(f"The network has no place {place.name!r}{hint}")
        return found

    def _by_module(
        self, places: Iterable[Place]
    ) -> dict[tuple[str, Literal["input", "output"]], list[Place]]:
        """Places by the side of the module where they are met, each once."""
        found: dict[tuple[str, Literal["input", "output"]], list[Place]] = {}
        for place in dict.fromkeys(places):
            field = self._field(place)
            found.setdefault((field.module, field.side), []).append(place)
        return found

    @contextmanager
    def _hook(
        self, name: str, side: Literal["input", "output"], work: Callable[[Any], Any]
    ) -> Iterator[None]:
        """`work` on a side of a module: it returns the side anew, or None to leave it."""
        module = self._modules[name]
        if side == "input":
            handle = module.register_forward_pre_hook(
                lambda _, args, kwargs: work((args, kwargs)), with_kwargs=True
            )
        else:
            handle = module.register_forward_hook(lambda _, args, output: work(output))
        try:
            yield
        finally:
            handle.remove()

    def _worker(
        self,
        module: str,
        places: list[Place],
        edits: Mapping[Place, Edit],
        wanted: tuple[Place, ...],
        kept: dict[Place, Tensor],
        *,
        grad: bool,
    ) -> Callable[[Any], Any]:
        called: list[None] = []

        def work(value: Any) -> Any:
            if called:
                raise MelismaError(
                    f"{module} is called more than once in one pass, so {places[0].name} has no "
                    "one value: choose another place."
                )
            called.append(None)
            changed = False
            for place in places:
                if place in edits:
                    value = self._edited(value, place, edits[place], None)
                    changed = True
                    kept[place] = torch.empty(0)
            # Copies, which no later module overwrites; with gradients what is kept flows on.
            for place in places:
                if place in wanted:
                    field = self._field(place)
                    whole = field.read(value).clone()
                    kept[place] = _at(whole, place)
                    if grad:
                        if place.position is not None:
                            at = place.position % whole.shape[1]
                            whole = torch.cat(
                                [whole[:, :at], kept[place], whole[:, at + 1 :]], dim=1
                            )
                        value = field.write(value, whole.clone())
                        changed = True
            return value if changed else None

        return work

    def _attached(self, handle: Handle, places: list[Place]) -> Callable[[Any], Any]:
        def work(value: Any) -> Any:
            if not handle.enabled:
                return None
            for place in places:
                value = self._edited(value, place, handle.edits[place], handle.rows)
            return value

        return work

    def _edited(self, value: Any, place: Place, edit: Edit, rows: Tensor | None) -> Any:
        """The side of a module with an edit in it."""
        field = self._field(place)
        whole = field.read(value)
        old = _at(whole, place)
        if rows is not None:
            rows = rows.nonzero()[:, 0] if rows.dtype == torch.bool else rows
            old = old[rows]
        # A copy, so that nothing but it is changed by an edit that is refused.
        old = old.clone()
        version = None if old.is_inference() else old._version
        new = edit(old, place)
        if version is not None and old._version != version:
            raise MelismaError(
                f"The edit of {place.name} changed its input in place: return a new tensor."
            )
        if not isinstance(new, Tensor) or new.shape != old.shape:
            got = tuple(new.shape) if isinstance(new, Tensor) else type(new).__name__
            raise MelismaError(
                f"The edit of {place.name} returned {got} for a tensor of {tuple(old.shape)}."
            )
        if new.dtype != old.dtype:
            raise MelismaError(
                f"The edit of {place.name} returned {new.dtype} for a tensor of {old.dtype}."
            )
        if rows is not None:
            new = _at(whole, place).index_copy(0, rows.to(new.device), new)
        if place.position is not None:
            at = place.position % whole.shape[1]
            new = torch.cat([whole[:, :at], new, whole[:, at + 1 :]], dim=1)
        # What the edit may hold or have expanded is not what a later module may overwrite.
        if new is not old:
            new = new.clone(memory_format=torch.contiguous_format)
        return field.write(value, new)

    def before(self, block: int) -> list[str]:
        """The blocks that are left out by a start at a block: those before it in its stack."""
        blocks = self.adapter.blocks
        if not 0 <= block < len(blocks):
            raise MelismaError(f"The network has {len(blocks)} blocks, and no block {block}.")
        # An encoder is computed for a decoder that starts in the middle; melisma's attention
        # follows its tower in one row.
        own = _stack(blocks[block])
        return [b for b in blocks[:block] if _stack(b) == own or self.adapter.channels_first]

    def _require_reached(self, place: Place, left_out: list[str]) -> None:
        module = self._field(place).module
        for name in left_out:
            if module == name or module.startswith(name + "."):
                raise MelismaError(
                    f"{place.name} lies before the block that the run starts at, so it is not "
                    "computed."
                )

    @contextmanager
    def _started(self, block: int, state: Tensor) -> Iterator[None]:
        """A block's input is `state`, and the blocks before it in its stack pass theirs on."""
        name = self.adapter.blocks[block]
        with ExitStack() as stack:
            tail: list[tuple[Any, ...]] = []
            for other in self.before(block):
                stack.enter_context(
                    _passed_on(self._modules[other], tail, self.adapter.first_returns_for_all)
                )
            stack.enter_context(self._hook(name, "input", self._replace_state(state, name)))
            yield

    def _state(self, value: Any) -> Tensor:
        """The state that enters a block, (batch, position, width)."""
        state = state_of(value)
        return state.transpose(1, 2) if self.adapter.channels_first else state

    def _remember(self, states: dict[str, Tensor], name: str) -> Callable[[Any], None]:
        def work(value: Any) -> None:
            states[name] = self._state(value)

        return work

    def _replace_state(self, state: Tensor, name: str) -> Callable[[Any], Any]:
        def work(value: Any) -> Any:
            own = self._state(value)
            if state.shape != own.shape:
                raise MelismaError(
                    f"The state that enters {name} has the shape {tuple(own.shape)}, and the one "
                    f"given {tuple(state.shape)}."
                )
            return with_state(
                value, state.transpose(1, 2) if self.adapter.channels_first else state
            )

        return work


def _same(value: Tensor, _: Place) -> Tensor:
    return value


def _at(value: Tensor, place: Place) -> Tensor:
    if place.position is None:
        return value
    if not -value.shape[1] <= place.position < value.shape[1]:
        raise MelismaError(
            f"{place.name} has {value.shape[1]} positions, and no position {place.position}."
        )
    at = place.position % value.shape[1]
    return value[:, at : at + 1]


def state_of(value: tuple[tuple[Any, ...], dict[str, Any]]) -> Tensor:
    """The hidden state among a block's (args, kwargs)."""
    args, kwargs = value
    return args[0] if args else kwargs["hidden_states"]


def with_state(value: tuple[tuple[Any, ...], dict[str, Any]], state: Tensor) -> Any:
    """A block's (args, kwargs) with another hidden state."""
    args, kwargs = value
    if args:
        return (state, *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": state}


def _stack(block: str) -> str:
    return block.rpartition(".")[0]


@contextmanager
def _averages_kept(module: nn.Module) -> Iterator[None]:
    """A pass in training mode leaves running averages as they were."""
    saved = [
        (buffer, buffer.clone())
        for each in module.modules()
        if each.training and isinstance(each, nn.modules.batchnorm._BatchNorm)
        for buffer in each.buffers(recurse=False)
    ]
    try:
        yield
    finally:
        for buffer, before in saved:
            buffer.copy_(before)


@contextmanager
def _passed_on(
    module: nn.Module, tail: list[tuple[Any, ...]], first_returns_for_all: bool
) -> Iterator[None]:
    """A block that hands its input on; where the first one returns for all, it is computed."""
    own = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        state = state_of((args, kwargs))
        if tail:
            return (state, *tail[0]) if tail[0] else state
        output = own(*args, **kwargs) if first_returns_for_all else state
        tail.append(tuple(output[1:]) if isinstance(output, tuple) else ())
        return (state, *tail[0]) if tail[0] else state

    had = "forward" in vars(module)
    module.forward = forward
    try:
        yield
    finally:
        if had:
            module.forward = own
        else:
            del module.forward


def _tensors(output: Any) -> list[Tensor]:
    """The tensors of an output, in order."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, Mapping):
        return [t for value in output.values() for t in _tensors(value)]
    if isinstance(output, tuple | list):
        return [t for value in output for t in _tensors(value)]
    return []


__all__ = [
    "Adapter", "Edit", "Field", "Handle", "Metric", "Network", "Place", "Run", "state_of",
    "with_state",
]  # fmt: skip
