"""A torch module of any kind as a reference: in float64, and in float32 in several equivalent ways."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import nn

from detparity.artifacts.input_form import integers, pixels
from detparity.core.decisions import Choice, Forced, followed
from detparity.core.text import listed
from detparity.core.trace import Trace
from detparity.models import fold
from detparity.models.compat.onednn import onednn
from detparity.models.decisions import Forcing, Recording
from detparity.models.float64 import exactly
from detparity.models.low_precision import FOLDED as HALF_FOLDED
from detparity.models.low_precision import ROUNDED, half_of
from detparity.models.module_copy import copied
from detparity.models.parts import parts
from detparity.models.reference import EXACT, CannotRunReference, ReferenceFacts
from detparity.models.rounded import HalfModule
from detparity.models.scaled import Reading, scaled, weights_of
from detparity.models.symbolic_functions import SymbolicCall, symbolic_functions
from detparity.oracle.matched_choices import Operator, as_chosen

Call = Callable[[nn.Module, torch.Tensor], Any]
FOLDED = "folded"
WAYS = ("eager", "plain", "channels-last", FOLDED)
HELD = 2e8  # bytes of what a float64 run chose from, beyond which it is run again under a file's choices
SAME = 1e-9  # relative difference, in float64, of a module and of its folded copy


def called(module: nn.Module, images: torch.Tensor) -> Any:
    """How most modules take an image."""
    return module(images)


@dataclass(frozen=True)
class Made:
    """A module in the mode in which it is run, and how: what an adapter makes. facts: its `ways` and `digest` are filled in."""

    module: nn.Module
    facts: ReferenceFacts
    call: Call = called


@dataclass(frozen=True)
class _OwnRun:
    """A run in float64 under the module's own choices. images: what it was given, by `_content`; operators: those that chose."""

    images: bytes
    outputs: Mapping[str, np.ndarray]
    operators: Tuple[Operator, ...]

    def under(self, images: np.ndarray, choices: Sequence[Choice]) -> Optional[List[Forced]]:
        """What a run of the same images under these choices would be given, where nothing it computes would differ; else None."""
        return as_chosen(self.operators, choices) if self.images == _content(images) else None


def _content(images: np.ndarray) -> bytes:
    found = hashlib.sha256(f"{images.shape} {images.dtype}".encode())
    found.update(np.ascontiguousarray(images).tobytes())
    return found.digest()


class ModuleReference:
    """The reference of a module. Its float64 and folded copies are made at the first run that needs them."""

    def __init__(self, made: Made) -> None:
        self._module, self._call = made.module, made.call
        self._copies: Dict[str, Optional[nn.Module]] = {}
        self._halves: Dict[str, HalfModule] = {}
        self._notes: List[str] = []
        self._last: Optional[_OwnRun] = None
        self._facts = replace(made.facts, ways=WAYS, digest=made.facts.digest or digest(made.module))

    @property
    def facts(self) -> ReferenceFacts:
        return replace(self._facts, notes=(*self._facts.notes, *self._notes))

    def run(self, how: str, images: np.ndarray) -> Dict[str, np.ndarray]:
        """See `models.reference.Reference`. A float32 way that this module does not have is run as the first."""
        return self.run_forced(how, images, ())[0]

    def run_forced(
        self, how: str, images: np.ndarray, choices: Sequence[Choice]
    ) -> Tuple[Dict[str, np.ndarray], List[Forced]]:
        """The same with the choices of a file forced, and which of them were."""
        own = self._last if how == EXACT and choices else None
        forced = own.under(images, choices) if own is not None else None
        if own is not None and forced is not None:
            return dict(own.outputs), forced
        x = torch.from_numpy(np.array(images))
        mode: Any = Forcing(choices) if choices else Recording(HELD) if how == EXACT else contextlib.nullcontext()
        with _refusing():
            with torch.no_grad(), symbolic_functions() as functions:
                if how == FOLDED:
                    self._folded(x)  # folding runs the module itself, which must not use up the choices
                with mode:
                    found = arrays(self._run(how, x))
            self._note_functions(functions)
            if isinstance(mode, Recording):
                self._last = _OwnRun(_content(images), found, tuple(mode.operators)) if mode.complete else None
            return dict(found), mode.forced if isinstance(mode, Forcing) else []

    def decisions(self, images: np.ndarray) -> List[Choice]:
        """What the module chooses by itself in float64, in the order it does. Raises CannotRunReference."""
        operators: Sequence[Operator] = self._last.operators if self._last is not None else ()
        if self._last is None or self._last.images != _content(images):
            mode = Recording()
            with _refusing(), torch.no_grad(), symbolic_functions(), mode:
                self._exact(torch.from_numpy(np.array(images)))
            operators = mode.operators
        return [one.own for one in operators if one.own.scores.ndim and one.floating]

    def weights(self) -> Dict[str, np.ndarray]:
        """Its tensors in float32 by name, weights of convolutions by module path, and those with batch-norm folded in, or worked out
        by a run, as `NAME, folded`. Raises CannotRunReference where the module does not run, without which neither is known."""
        images = torch.rand(
            self._facts.shape, generator=torch.Generator().manual_seed(0)
        )  # what shows a wrong fold: no black one
        if integers(self._facts.image):
            images = torch.from_numpy(pixels(images.numpy(), self._facts.image))
        with _refusing(), torch.no_grad(), symbolic_functions():
            folded = self._folded(images)
            self._exact(images)
        found = {**_tensors(self._exact_module()), **_tensors(self._module)}
        other = _tensors(folded) if folded is not None else {}
        changed = {
            name: one for name, one in other.items() if name not in found or not np.array_equal(one, found[name])
        }
        return {**found, **{f"{name}, folded": value for name, value in changed.items()}}

    def weights_read(self, images: np.ndarray) -> List[str]:
        """Names of its weights, in the order they are read on these images; biases are left out. Raises CannotRunReference."""
        mode = Reading(weights_of(self._module))
        with _refusing(), torch.no_grad(), symbolic_functions(), mode:
            self._float32(WAYS[0], torch.from_numpy(np.array(images)))
        return list(mode.read)

    def run_scaled(
        self, how: str, weight: Tuple[str, float], images: np.ndarray, choices: Sequence[Choice] = ()
    ) -> Dict[str, np.ndarray]:
        """What it gives with one of its weights times a factor, in float64 or the first float32 way, under a file's choices; nothing
        where they cannot be given to it. Raises CannotRunReference."""
        exact, mode = how == EXACT, Forcing(choices)
        forcing: Any = mode if choices else contextlib.nullcontext()
        module = self._exact_module() if exact else self._module
        with _refusing(), scaled(module, *weight), torch.no_grad(), symbolic_functions(), forcing:
            found = arrays(self._run(how if exact else WAYS[0], torch.from_numpy(np.array(images))))
        return found if followed(mode.forced, choices) else {}

    def _run(self, how: str, x: torch.Tensor) -> Any:
        if how == EXACT:
            return self._exact(x)
        return self._half(how, x) if half_of(how) else self._float32(how, x)

    def trace(self, images: np.ndarray) -> Trace:
        """The float64 run of these images, operator by operator. Raises CannotRunReference."""
        from detparity.models.recording import recorded

        module = self._exact_module()
        with _refusing(), symbolic_functions():
            return recorded(module, lambda x: self._call(module, x), images)

    def _exact_module(self) -> nn.Module:
        if EXACT not in self._copies:
            copy, shared = copied(self._module)
            self._copies[EXACT] = copy.double()
            if shared:
                self._notes.append(f"could not be copied and is shared with the model: {', '.join(shared[:6])}")
        module = self._copies[EXACT]
        assert module is not None
        return module

    def _exact(self, x: torch.Tensor) -> Any:
        module = self._exact_module()
        with exactly() as mode:
            found = self._call(module, _of(x, torch.float64))
        if mode.raised and not any(note.startswith("raised") for note in self._notes):
            names = ", ".join(sorted(mode.raised)[:6])
            self._notes.append(f"raised to float64 where the code makes float32: operands of {names}")
        return found

    def _note_functions(self, calls: List[SymbolicCall]) -> None:
        for call in calls:
            note = f"{call.name} is computed as {call.operator}, which it exports to: its eager result is not used"
            if note not in self._notes:
                self._notes.append(note)

    def _float32(self, how: str, x: torch.Tensor) -> Any:
        folded = self._folded(x) if how == FOLDED else None
        module = self._module if folded is None else folded
        x = _of(x, torch.float16) if halves(module) else x
        if how == "channels-last" and x.dim() == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        with onednn(how != "plain"):
            return self._call(module, x)

    def _half(self, how: str, x: torch.Tensor) -> Any:
        """In half precision: operators in float32 whose results are rounded where the type can hold them, or the kernels that torch
        has; where these give numbers that are none, the run by operators is used."""
        half: torch.dtype = getattr(torch, half_of(how))
        if ROUNDED not in how:
            if how not in self._copies:
                self._copies[how] = copied(self._module)[0].to(half)
            kernels = self._copies[how]
            assert kernels is not None
            found = self._call(kernels, _of(x, half))
            if all(np.isfinite(value).all() for value in arrays(found).values() if value.dtype.kind == "f"):
                return found
            how += ROUNDED
        folded = self._folded(x) if how.endswith(HALF_FOLDED) else None
        return self._rounded(how, folded if folded is not None else self._module, x)

    def _rounded(self, how: str, module: nn.Module, x: torch.Tensor) -> Any:
        half: torch.dtype = getattr(torch, half_of(how))
        if how not in self._halves:
            self._halves[how] = HalfModule(module, half)
        one = self._halves[how]
        found = one.run(lambda copy: self._call(copy, _of(x, half)))
        if one.beyond and not any(note.startswith(f"{half_of(how)} cannot hold") for note in self._notes):
            self._notes.append(
                f"{half_of(how)} cannot hold the numbers of {_named(one)}: its noise is that of runs that leave them in float32"
            )
        return found

    def islands(self, precision: str, images: np.ndarray) -> List[Tuple[str, Dict[str, np.ndarray]]]:
        """What the module gives in half precision with parts left in float32, by what is left: first nothing but what
        the type cannot hold.
        Raises CannotRunReference."""
        half: torch.dtype = getattr(torch, precision)
        x = torch.from_numpy(np.array(images))
        with _refusing(), torch.no_grad(), symbolic_functions():
            first = self._rounded(precision + ROUNDED, self._module, x)
            found = [(_named(self._halves[precision + ROUNDED]) or "nothing", arrays(first))]
            for title, left in parts(self._module, lambda one: self._call(one, x)).items():
                part = HalfModule(self._module, half, left).run(lambda copy: self._call(copy, _of(x, half)))
                found.append((title, arrays(part)))
        return found

    def _folded(self, x: torch.Tensor) -> Optional[nn.Module]:
        if FOLDED not in self._copies:
            self._copies[FOLDED] = self._fold(x)
        return self._copies[FOLDED]

    def _fold(self, x: torch.Tensor) -> Optional[nn.Module]:
        """A copy with batch-norm folded; None where there is none to fold, or where it would compute something else."""
        if isinstance(self._module, torch.jit.ScriptModule):
            return None
        if halves(self._module):
            return None
        module, shared = copied(self._module)
        which = fold.pairs(module, lambda one: self._call(one, x))
        if not which or shared:
            return None
        fold.fold(module, which)
        check, _ = copied(self._module)
        check = check.double()
        fold.fold(check, which)
        with exactly():
            one = arrays(self._call(check, _of(x, torch.float64)))
        other = arrays(self._exact(x))
        return module if all(name in one and _same(value, one[name]) for name, value in other.items()) else None


def _of(images: torch.Tensor, kind: torch.dtype) -> torch.Tensor:
    """Images in this type, where they are no integers: those are what the module is given, whatever it computes in."""
    return images.to(kind) if images.is_floating_point() else images


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """What the module's own code raises in the block, as CannotRunReference."""
    try:
        yield
    except CannotRunReference:
        raise
    except Exception as error:
        raise CannotRunReference(f"{type(error).__name__}: {' '.join(str(error).split())[:400]}") from None


def _named(half: HalfModule) -> str:
    """What half precision cannot hold, as a list in a sentence."""
    return listed([path or "the model itself" for path in half.beyond], 3)


def _tensors(module: nn.Module) -> Dict[str, np.ndarray]:
    """Tensors with axes, the weight of a convolution under its path, those that a module holds as plain attributes as well."""
    parts = {name: part for name, part in module.named_modules() if isinstance(part, fold.CONVOLUTIONS)}
    found = {name: plain(part.weight.float()) for name, part in parts.items()}
    held = [(f"{path}.{name}", one) for path, part in module.named_modules() for name, one in vars(part).items()]
    plainly = [(name, one) for name, one in held if isinstance(one, torch.Tensor)]
    for name, one in (*module.named_parameters(), *module.named_buffers(), *plainly):
        if (
            one.is_floating_point()
            and one.dim()
            and one.numel()
            and not (name.endswith(".weight") and name[:-7] in parts)
        ):
            found[name] = plain(one.float())
    return found


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    if one.shape != other.shape:
        return False
    scale = max(float(np.abs(one).max(initial=0.0)), 1e-30)
    return bool(np.allclose(one, other, rtol=0, atol=SAME * scale, equal_nan=True))


def arrays(result: Any) -> Dict[str, np.ndarray]:
    """The tensors of what a module returned, by name: keys of dictionaries, else `output`, `output_1`, ... in order."""
    found: List[Tuple[str, torch.Tensor]] = []

    def visit(value: Any, name: str) -> None:
        if isinstance(value, torch.Tensor):
            found.append((name, value))
        elif isinstance(value, Mapping):
            for key, item in value.items():
                visit(item, f"{name}.{key}" if name else str(key))
        elif isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                visit(item, f"{name}.{index}" if name else "")
        elif hasattr(value, "to_tuple"):
            visit(value.to_tuple(), name)

    visit(result, "")
    outputs: Dict[str, np.ndarray] = {}
    for name, tensor in found:
        count = len(outputs)
        name = name or (f"output_{count}" if count else "output")
        outputs[name if name not in outputs else f"{name}_{count}"] = plain(tensor)
    return outputs


def plain(tensor: torch.Tensor) -> np.ndarray:
    """A tensor as numpy has it; bfloat16, which numpy has not, as float32."""
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    return np.array(tensor.cpu().numpy())


def digest(module: nn.Module) -> str:
    """SHA-256 of names, types and numbers of a module's state."""
    found = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if isinstance(value, torch.Tensor):
            found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            found.update(np.ascontiguousarray(plain(value)).tobytes())
    return found.hexdigest()


def condition(made: Made, images: torch.Tensor) -> None:
    """Set the statistics of every batch-norm on these images, so that random weights neither vanish nor saturate."""
    norms = [part for part in made.module.modules() if fold.is_norm(part) and isinstance(part, nn.Module)]
    with _training(norms), torch.no_grad():
        made.call(made.module, images)


@contextlib.contextmanager
def _training(norms: List[nn.Module]) -> Iterator[None]:
    before = [(norm, getattr(norm, "momentum", None)) for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0  # type: ignore[assignment]
    try:
        yield
    finally:
        for norm, momentum in before:
            norm.eval()
            norm.momentum = momentum  # type: ignore[assignment]


def halves(module: nn.Module) -> bool:
    """Whether a module's weights are float16."""
    first = next((p for p in module.parameters() if p.is_floating_point()), None)
    return first is not None and first.dtype == torch.float16
