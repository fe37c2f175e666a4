"""Why a module does not script: the known mistakes by name, what works instead, and the compiler's messages that indicate them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Kind:
    """title: the mistake in a few words; instead: what works, in one or two lines."""

    title: str
    instead: str


@dataclass(frozen=True)
class Location:
    """A line of source: its file as a person would name it, its number, its text."""

    file: str
    line: int
    text: str = ""


@dataclass(frozen=True)
class Mistake:
    """A known mistake found in the source text. method: `Class.method`; detail: its subject, such as the attribute's name."""

    kind: str
    method: str
    location: Location
    detail: str = ""


@dataclass(frozen=True)
class Failure:
    """What stopped one submodule. path: of the submodule, empty for the model itself; reason: the compiler's message without its call
    stack; method: of the location; also: mistakes found in the same methods; at: `script` or `save`; guessed: seen only beside
    stand-ins whose interface had to be guessed."""

    path: str
    module: str
    kind: str
    reason: str
    location: Optional[Location]
    method: str
    also: Tuple[Mistake, ...] = ()
    at: str = "script"
    guessed: bool = False


@dataclass(frozen=True)
class Cause:
    """One cause in all the submodules that have it: `modules` as (path, class), in the order the compiler meets them."""

    kind: str
    reason: str
    location: Optional[Location]
    method: str
    modules: Tuple[Tuple[str, str], ...]
    also: Tuple[Mistake, ...]
    at: str
    guessed: bool


def grouped(failures: Sequence[Failure]) -> Tuple[Cause, ...]:
    """Failures of one kind at one location are one cause. Causes are in the order of their first failure."""
    groups: Dict[Tuple[object, ...], List[Failure]] = {}
    for failure in failures:
        location = (failure.location.file, failure.location.line) if failure.location else failure.reason
        groups.setdefault((failure.kind, failure.at, location), []).append(failure)
    found = []
    for members in groups.values():
        first = members[0]
        also = tuple(dict.fromkeys(mistake for member in members for mistake in member.also))
        modules = tuple((member.path, member.module) for member in members)
        guessed = all(member.guessed for member in members)
        found.append(Cause(first.kind, first.reason, first.location, first.method, modules, also, first.at, guessed))
    return tuple(found)


KINDS: Dict[str, Kind] = {
    "output-of-call": Kind(
        "scripts what a call returned, not the module",
        "torch.jit.script(model): hand over the module itself, call the result with the data afterwards.",
    ),
    "attribute-in-forward": Kind(
        "an attribute is created outside __init__",
        "create it in __init__ with its final type (self.shape: List[int] = [0, 0]), or keep it a local variable.",
    ),
    "mixed-type-routing": Kind(
        "routes are an int for one layer and a list for another",
        "make every route a list of ints: self.routes: List[List[int]] on the network, and for every layer "
        "forward(self, xs: List[Tensor]) -> Tensor.",
    ),
    "isinstance": Kind(
        "the class of a value is tested in a form that is not decided while compiling",
        "decide in __init__ and keep plain data (a bool, a List[List[int]]), or give all layers one signature. "
        "isinstance compiles only as the complete condition of an if, with a class the compiler has met.",
    ),
    "mutated-cache": Kind(
        "a cache on the module changes its type",
        "compute the value in forward and keep it local (a grid costs little), or give the attribute its final type "
        "in __init__: a buffer, or a List[Tensor] that holds tensors from the start.",
    ),
    "ignored-method": Kind(
        "a method marked ignore stays a Python call, and the result cannot be saved",
        "let it compile (remove the mark), or call it outside the module. @torch.jit.unused can be saved, "
        "but raises when it is reached.",
    ),
    "unused-method": Kind(
        "a method marked unused is replaced by a raise",
        "remove the mark where the call is reached in use; keep it for branches that the scripted module never takes.",
    ),
    "dynamic-getattr": Kind(
        "an attribute is looked up by a computed name",
        "put the submodules into an nn.ModuleList (or nn.ModuleDict) and loop over it; "
        "getattr and hasattr take a literal name only.",
    ),
    "star-arguments": Kind(
        "a signature or call with a number of arguments that is not fixed",
        "name every argument and give it a type; hand several tensors over as one List[Tensor].",
    ),
    "f-string": Kind(
        "an f-string with a format or a conversion",
        "a plain {x} compiles; leave !r and :spec out, or build the text outside forward.",
    ),
    "builtin": Kind(
        "a Python builtin that the compiler lacks, or lacks for modules",
        "write the loop out. For a ModuleList beside a list: for i, m in enumerate(self.m): out.append(m(xs[i])).",
    ),
    "module-list-index": Kind(
        "a ModuleList is indexed by a variable",
        "loop over it (for i, m in enumerate(self.m)), index with a literal, or zip two ModuleLists.",
    ),
    "none-attribute": Kind(
        "an attribute that is None is used as a value",
        "give it its value in __init__, or annotate it in the body of the class (scale: Optional[Tensor]), take a local "
        "copy and test that copy against None.",
    ),
    "unannotated-parameter": Kind(
        "a parameter without annotation is taken for a Tensor",
        "annotate it: x: List[Tensor], n: int, augment: bool = False, y: Optional[Tensor] = None.",
    ),
    "lambda": Kind(
        "a lambda, which has no source that the compiler could take",
        "an nn.Module (nn.SiLU), a method, or a function of the file written with def.",
    ),
    "numpy": Kind(
        "numpy inside forward",
        "the same operation of torch; constants computed by numpy belong into __init__, as a float or a buffer.",
    ),
    "mixed-return": Kind(
        "forward returns one type here and another there",
        "one return type for every path: a second module (or method) for the other result, chosen outside.",
    ),
    "sequential": Kind(
        "an nn.Sequential holds layers that do not follow one another",
        "nn.ModuleList: Sequential has a forward of its own, which is compiled even where nothing calls it.",
    ),
    "attribute-without-type": Kind(
        "an attribute has no TorchScript type (empty, or of mixed contents)",
        "annotate it in the body of the class (y: List[Tensor]) or keep one type throughout; "
        "read settings out of dicts in __init__.",
    ),
    "modules-in-list": Kind(
        "submodules are in a Python list or dict",
        "nn.ModuleList or nn.ModuleDict: the compiler sees submodules nowhere else.",
    ),
    "class-attribute": Kind(
        "an attribute of the class, not of the instance",
        "set it in __init__, or name it in __constants__ (or annotate it Final).",
    ),
    "missing-attribute": Kind(
        "an attribute is read that the module does not have",
        "create it in __init__; what load_state_dict, fuse or a first run adds must be there before scripting.",
    ),
    "super-call": Kind(
        "super() inside compiled code",
        "call a method of another name that the base class defines: self.base_forward(x).",
    ),
    "mixed-list": Kind(
        "a list gets elements of several types",
        "one element type: y: List[Tensor] = []. In place of None for layers that are not stored, append the image; an "
        "empty list without annotation is a List[Tensor].",
    ),
    "layer-signature": Kind(
        "a submodule is handed another type than its forward takes",
        "one signature for all layers of a list: forward(self, xs: List[Tensor]) -> Tensor, single-input layers "
        "wrapped in a module that passes xs[0] on.",
    ),
    "tensor-method": Kind(
        "a method or attribute that tensors have in Python only",
        "x.new_zeros(..) or torch.zeros(.., device=x.device) for x.new(..); x.detach() for x.data.",
    ),
    "foreign-code": Kind(
        "code outside the model is called that does not compile",
        "an operator of torch in its place, or the call moved out of forward.",
    ),
    "hook": Kind(
        "a forward hook is compiled with its module, and does not compile",
        "remove it before scripting: handle.remove(), torch.nn.utils.remove_weight_norm(..).",
    ),
    "retyped-variable": Kind(
        "a variable changes its type",
        "another name for the other type.",
    ),
    "syntax": Kind(
        "syntax that the compiler does not know",
        "move it out of forward and what forward calls (try, import, inner functions, sets, := and generators).",
    ),
    "python-value": Kind(
        "a Python object from outside the module",
        "copy numbers into the module in __init__; log and time outside forward.",
    ),
    UNKNOWN: Kind(
        "the compiler refuses",
        "no advice for this one: the compiler's words are all there is.",
    ),
}

_PYTHON_ONLY = "new|data|numpy|tolist|type|storage|data_ptr|register_hook|retain_grad|apply_|map_"  # of tensors
# Patterns of the compiler's messages; the first that fits decides. Mistakes found in the source refine some of them (`kind_of`).
_WORDS: Tuple[Tuple[str, str], ...] = (
    (r"^(Pre-h|H)ook '", "hook"),
    (r"Could not export Python function call", "ignored-method"),
    (r"undefined Tensor|UndefinedTensorImpl", "unannotated-parameter"),
    (r"Tried to set nonexistent attribute", "attribute-in-forward"),
    (r"Wrong type for attribute assignment", "mutated-cache"),
    (r"This function exists as an attribute on the Python module", "lambda"),
    (r"failed to convert Python type", "attribute-without-type"),
    (r"Module '[^']*' has no attribute", "missing-attribute"),
    (r"(get|has|set)attr's second argument", "dynamic-getattr"),
    (r"variable number of arguments", "star-arguments"),
    (r"argument '<varargs>' but instead found type 'Tuple\[[^']*Tensor", "unannotated-parameter"),
    (r"infer the expected size of a list", "builtin"),
    (r"^forward\(", "layer-signature"),
    (r"^aten::(append|_set_item)", "mixed-list"),
    (r"object is not iterable", "mixed-type-routing"),
    (rf"attribute or method '({_PYTHON_ONLY})'", "tensor-method"),
    (r"attribute or method '\w+'.*\(inferred\)|\(inferred\)' object has no attribute", "unannotated-parameter"),
    (r"(object has no|nonexistent) attribute or method", "tensor-method"),
    (r"in JoinedStr", "f-string"),
    (r"Can not iterate over a module list", "builtin"),
    (r"[Ii]nteger literal for index|string literal index|slice indices must be integer", "module-list-index"),
    (r"Expected a default value of type Tensor", "unannotated-parameter"),
    (r"numpy|'numpy\.ufunc'", "numpy"),
    (r"Python builtin <built-in", "builtin"),
    (r"Lambda aren't supported", "lambda"),
    (r"GeneratorExp aren't supported|^(type|reversed|sorted|iter)\(Tensor", "builtin"),
    (r"aren't supported", "syntax"),
    (r"Unknown type name|type object 'type' has no attribute", "isinstance"),
    (r"return statement returned a value of type|if-expression's true branch", "mixed-return"),
    (r"previously ha[sd] type|Cannot re-assign", "retyped-variable"),
    (r"python value of type .* cannot be used|not defined on python value", "python-value"),
    (r"found type '(NoneType|None|Optional\[\w+\])'", "none-attribute"),
    (r"was not annotated with an explicit type|\(inferred\)", "unannotated-parameter"),
)
# The kinds that a mistake found on the same line replaces: the message has the effect, the source the cause.
_REFINES: Dict[str, Tuple[str, ...]] = {
    "attribute-without-type": ("mutated-cache", "mixed-type-routing", "modules-in-list"),
    "missing-attribute": ("attribute-in-forward", "class-attribute", "modules-in-list"),
    "retyped-variable": ("mixed-type-routing", "isinstance"),
    "builtin": ("super-call", "isinstance", "numpy", "star-arguments"),
    "layer-signature": ("mixed-type-routing", "isinstance", "star-arguments"),
    "mixed-list": ("mutated-cache",),
    "tensor-method": ("super-call", "numpy", "unannotated-parameter", "attribute-without-type"),
    "unannotated-parameter": (
        "mutated-cache",
        "mixed-type-routing",
        "isinstance",
        "star-arguments",
        "super-call",
        "numpy",
    ),
    "none-attribute": ("mutated-cache",),
    "isinstance": ("numpy",),
    "syntax": ("builtin", "numpy"),
}


def kind_of(reason: str, here: Sequence[Mistake]) -> str:
    """The name of a mistake, from the compiler's message and the mistakes found on the line it points at."""
    reported = next((kind for words, kind in _WORDS if re.search(words, reason)), UNKNOWN)
    read = [mistake.kind for mistake in here]
    if reported == UNKNOWN:
        return read[0] if read else UNKNOWN
    return next((kind for kind in _REFINES.get(reported, ()) if kind in read), reported)


_NOISE = (
    (r"___torch_mangle_\d+\.", ""),
    (r" ?\(of Python compilation unit at: \w+\)", ""),
    (r"__torch__\.(\w+\.)*", ""),
    (r" at 0x[0-9a-f]+", ""),
    (r"Empty lists default to List\[Tensor\]\. Add a variable annotation .*", ""),
    (r"top-level function: \S+", "top-level function"),
    (r" ?Its type was inferred; try adding a type annotation for the attribute\.", ""),
)
_LOCATION = re.compile(
    r'(?:^\s*|\bat\s+)File "(?P<file>[^"]+)", line (?P<line>\d+)\n(?P<code>(?:.*\n)*?.*<--- HERE)', re.MULTILINE
)


@dataclass(frozen=True)
class CompilerError:
    """An error of the compiler, parsed. lines: (file, line) from the innermost outwards, files as the compiler names them; empty
    where it names none."""

    reason: str
    lines: Tuple[Tuple[str, int], ...] = ()


def taken_apart(text: str) -> CompilerError:
    """The compiler's reason and its locations, without its excerpts of source."""
    text = text.strip("\n")
    found = list(_LOCATION.finditer(text))
    head = text[: found[0].start()] if found else text
    for pattern, instead in _NOISE:
        head = re.sub(pattern, instead, head)
    return CompilerError(_condensed(head), tuple((one["file"], int(one["line"])) for one in found))


def _condensed(head: str) -> str:
    """Of the many overloads that do not fit, the first; of an error inside another, the text of both."""
    head = head.replace("The error stack is reproduced here:", "")
    if "The following variants are available:" in head:
        head = head.split("The following variants are available:")[1].split("The original call is:")[0].strip("\n")
        head = re.split(r"\n\s*\n", head)[0]
    lines = [line.strip() for line in head.splitlines() if line.strip() not in ("", ":")]
    return " ".join(lines).rstrip(": ").strip()
