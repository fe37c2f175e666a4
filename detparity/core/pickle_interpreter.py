"""An interpreter of pickles that can do no harm: every name is inert, every call is one of ours, and what it makes is counted.

It makes plain data, a `Record` for each object of a class that its names know, and an `Opaque` for all that they do not.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Callable, ClassVar, Collection, Dict, Iterable, List, Set, Tuple, cast

import numpy as np

from detparity.core.pickle_scan import OPCODE_NAMES, OPCODES, Budget, Resolve, scan
from detparity.core.torch_archive import Refused, one_line, quoted

# Official checkpoints nest less than 30 deep; callers may walk the result by recursion.
MAX_DEPTH = 100
# Sharing can make a small file describe an endless walk; official ones unfold to little more than they hold.
MAX_UNFOLDING, MIN_UNFOLDED, MAX_ELEMENTS = 16, 10_000, 64
_RECORD_BYTES, _ENTRY_BYTES = 256, 64
_SCALARS = frozenset({type(None), bool, int, float, str, bytes})
# What remains possible once every operation is known to be complete and allowed: a value missing on the stack
# or in the memo, a wrong number of arguments, text that is not UTF-8, a number that numpy does not take.
_BROKEN_PICKLE = (
    *(pickle.UnpicklingError, IndexError, KeyError, TypeError, ValueError, OverflowError, AttributeError),
    *(MemoryError, RecursionError, EOFError),
)


@dataclass(frozen=True, eq=False)
class Record:
    """An object of a known class as the pickle describes it; nothing of the class ran.

    `args` is what `__new__` would have received, `state` what `__setstate__` would have.
    """

    module: str
    name: str
    args: Tuple[object, ...] = field(repr=False)
    state: Dict[str, object] = field(repr=False)

    @property
    def qualified(self) -> str:
        """The dotted name of the class, as in `models.common.Conv`."""
        return f"{self.module}.{self.name}"


class Opaque:
    """What a pickle describes by a name that is not known: a class or a function, what it would make, and what that would hold.

    qualified: the dotted name; why: why it is not more than this, a clause about the file; args, state, items: as the pickle has them.
    """

    __slots__ = ("args", "items", "qualified", "state", "why")

    def __init__(self, qualified: str, why: str, args: Tuple[object, ...] = ()) -> None:
        self.qualified, self.why, self.args = qualified, why, args
        self.state: object = None
        self.items: List[object] = []

    def __repr__(self) -> str:
        return f"Opaque({self.qualified})"


def unknown(module: str, name: str) -> Opaque:
    qualified = f"{module}.{name}"
    return Opaque(
        qualified, f"names {quoted(qualified)}, which is not on the list of known classes; nothing was executed"
    )


class KnownClass(Opaque):
    """A known class on the pickle's stack."""

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str) -> None:
        super().__init__(f"{module}.{name}", "leaves an unfinished object in its data")
        self.module, self.name = module, name


@dataclass(frozen=True, eq=False)
class Function:
    """Code of this package on the pickle's stack, in place of the function or class that the pickle names."""

    call: Callable[..., object]


class Interpreter(pickle._Unpickler):
    """The standard library's interpreter in Python; what could call or change foreign things is replaced.

    The one in C will not do: it takes a memo index from the file as the size of an allocation. `loaded` is the way to use it.
    """

    opaque_root = False  # whether the pickle may be one object of an unknown class
    stack: List[Any]
    append: Callable[[object], None]
    pop_mark: Callable[[], List[Any]]

    def __init__(self, data: bytes, what: str, names: Resolve) -> None:
        super().__init__(io.BytesIO(data))
        self.what, self._names = what, names
        self._budget = Budget()

    def find_class(self, module: str, name: str) -> object:
        return self._names(module, name)

    def set_state(self, target: object, state: object) -> None:
        """Give an object its state. Subclasses do so for objects of theirs."""
        if isinstance(target, Record):
            if type(state) is not dict or not all(type(key) is str for key in state) or target.state:
                raise Refused(f"its {self.what} gives a {quoted(target.qualified)} a state that is not one dict")
            target.state.update(state)
        elif type(target) is OrderedDict:
            # A state_dict carries its format version as an attribute, which nothing here needs.
            if type(state) is not dict or set(state) != {"_metadata"}:
                raise Refused(f"its {self.what} gives an OrderedDict attributes that torch does not give it")
        elif type(target) is Opaque:
            if target.state is None:
                target.state = state
            else:
                target.items.append(state)
        else:
            raise Refused(f"its {self.what} sets the state of something that has none")

    def _call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if type(arguments) is tuple:
            self._budget.spend(_RECORD_BYTES + _cost(arguments))
            if type(function) is Function:
                return self.append(function.call(*arguments))
            if type(function) is Opaque:
                before = (function.args,) if function.args else ()
                return self.append(Opaque(function.qualified, function.why, (*before, *arguments)))
            if type(function) is KnownClass:
                what = f"its {self.what} calls {quoted(function.qualified)}, which is not a known function"
                return self.append(Opaque(function.qualified, f"{what}; nothing was executed", arguments))
        raise Refused(f"its {self.what} calls something, which is not a known function; nothing was executed")

    def _new_object(self) -> None:
        arguments, cls = self.stack.pop(), self.stack.pop()
        self._budget.spend(_RECORD_BYTES)
        if type(arguments) is tuple and type(cls) is KnownClass:
            return self.append(Record(cls.module, cls.name, arguments, {}))
        if type(arguments) is tuple and type(cls) is Opaque and cls.state is None:
            self._budget.spend(_cost(arguments))
            return self.append(Opaque(cls.qualified, cls.why, arguments))
        raise Refused(f"its {self.what} makes an object of something that is not a known class")

    def _build(self) -> None:
        state = self.stack.pop()
        self._budget.spend(_cost(state))
        self.set_state(self.stack[-1], state)

    def _append_one(self) -> None:
        self._extend([self.stack.pop()])

    def _append_many(self) -> None:
        self._extend(self.pop_mark())

    def _extend(self, items: List[object]) -> None:
        target = self.stack[-1]
        if type(target) is list:
            target.extend(items)
        elif type(target) is Opaque:
            target.items.extend(items)
        else:
            raise Refused(f"its {self.what} appends to something that is not a list")

    def _set_one(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    def _set_many(self) -> None:
        self._set_items(self.pop_mark())

    def _set_items(self, items: List[object]) -> None:
        target = self.stack[-1]
        if type(target) is Opaque:
            target.items.extend(items)
            return
        if type(target) not in (dict, OrderedDict) or len(items) % 2:
            raise Refused(f"its {self.what} sets items of something that is not a dict")
        target.update(zip(hashable(items[::2]), items[1::2]))

    def _add_many(self) -> None:
        items = self.pop_mark()
        target = self.stack[-1]
        if type(target) is Opaque:
            target.items.extend(items)
        elif type(target) is set:
            target.update(hashable(items))
        else:
            raise Refused(f"its {self.what} adds items to something that is not a set")

    def _frozen(self) -> None:
        items = self.pop_mark()  # first: it changes what `append` appends to
        self.append(frozenset(hashable(items)))

    dispatch: ClassVar[Dict[int, Callable[[Any], None]]] = {
        **{
            code: handler
            for code, handler in pickle._Unpickler.dispatch.items()
            if OPCODES[bytes([code])].name in OPCODE_NAMES
        },
        pickle.REDUCE[0]: _call,
        pickle.NEWOBJ[0]: _new_object,
        pickle.BUILD[0]: _build,
        pickle.APPEND[0]: _append_one,
        pickle.APPENDS[0]: _append_many,
        pickle.SETITEM[0]: _set_one,
        pickle.SETITEMS[0]: _set_many,
        pickle.ADDITEMS[0]: _add_many,
        pickle.FROZENSET[0]: _frozen,
    }


def loaded(interpreter: Interpreter, data: bytes, names: Resolve, size: int) -> object:
    """Scan a pickle, run it, and return what it describes: a finite tree that a plain recursive walk finishes.

    size: of the file it is from, which bounds the arrays it may unfold to. Raises Refused.
    """
    try:
        scan(data, interpreter.what, names)
        root = interpreter.load()
        if isinstance(root, Opaque) and not interpreter.opaque_root:
            raise Refused(root.why if root.why.startswith(("its ", "names ")) else f"its {interpreter.what} {root.why}")
        _check_tree(root, interpreter.what, size)
        return root
    except _BROKEN_PICKLE as error:
        raise Refused(f"its {interpreter.what} is malformed ({one_line(error)})") from None


def hashable(items: Collection[object]) -> Collection[object]:
    # Scalars only: hashing a tuple of shared tuples takes time exponential in their depth.
    if not all(type(item) in _SCALARS for item in items):
        raise Refused("its data.pkl uses a key or a set element that is not a string or a number")
    return items


def _cost(value: object, inner: bool = True) -> int:
    """Bytes that copying a value, or joining what is in it, may take; never more than one level down."""
    if type(value) in (str, bytes):
        return len(cast(str, value))
    if type(value) in (tuple, list, dict, OrderedDict, set, frozenset):
        members = cast(Collection[object], value)
        return _ENTRY_BYTES * len(members) + (sum(_cost(item, False) for item in members) if inner else 0)
    return 0


# --- the result


def _check_tree(root: object, what: str, size: int) -> None:
    """Refuse data that a plain recursive walk would not finish: cyclic, too deep, or huge by sharing."""
    done: Dict[int, Tuple[int, int, int]] = {}  # id -> depth, nodes unfolded, array elements unfolded
    ancestors: Set[int] = set()
    pending, held = [root], 1
    while pending:
        node = pending[-1]
        if id(node) in done or type(node) in _SCALARS:
            pending.pop()
            continue
        parts = _parts(node, what)
        if id(node) not in ancestors:
            ancestors.add(id(node))
            if not ancestors.isdisjoint(map(id, parts)):
                raise Refused(f"its {what} describes data that contains itself")
            pending.extend(parts)
            continue
        below = [done[id(part)] for part in parts if id(part) in done]
        depth = 1 + max((one[0] for one in below), default=0)
        nodes = 1 + sum(one[1] for one in below) + len(parts) - len(below)
        elements = sum(one[2] for one in below) + (node.size if isinstance(node, np.ndarray) else 0)
        if depth > MAX_DEPTH:
            raise Refused(f"its {what} describes data nested more than {MAX_DEPTH} deep")
        held += len(parts)
        done[id(node)] = depth, min(nodes, 1 << 62), elements
        if elements > MAX_ELEMENTS * size:
            raise Refused(f"its {what} describes data of more than {MAX_ELEMENTS} times the file's size")
        ancestors.remove(id(node))
        pending.pop()
    unfolded = done[id(root)][1] if id(root) in done else 1
    if unfolded > MIN_UNFOLDED + MAX_UNFOLDING * held:
        raise Refused(f"its {what} describes data of more than {MAX_UNFOLDING} times the file's own parts")


def _parts(node: object, what: str) -> List[object]:
    if isinstance(node, Record):
        return [node.args, node.state]
    if type(node) in (dict, OrderedDict):
        return list(node.values())  # type: ignore[attr-defined]
    if type(node) in (list, tuple, set, frozenset):
        return list(cast(Iterable[object], node))
    if type(node) is np.ndarray and not node.flags.writeable:
        return []
    if isinstance(node, Opaque):
        return [node.args, node.state, *node.items]
    raise Refused(f"its {what} leaves an unfinished object in its data")
