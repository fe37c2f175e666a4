"""What a pickle may do and name, decided before any of it runs; and the budget that is spent while it runs.

A pickle is a program. Only the operations that torch writes for plain data and objects are let through. A name is never
imported: it is replaced by inert code, recorded, or left as opaque data. Names of functions that run, load or write things are
refused all the same: a file that holds one is an attack on other programs.
"""

from __future__ import annotations

import io
import pickletools
from typing import Any, Callable, List, Mapping, Tuple

from detparity.core.torch_archive import Refused, quoted

# The largest official architecture with its EMA needs about 0.7 million operations.
MAX_OPCODES = 2_000_000
MAX_OBJECTS = 600_000  # containers and objects made
MAX_INTEGER_BITS = 128  # the state of a random generator
MAX_MADE_BYTES = 128 << 20

# What pickle protocols 2 to 4 write for plain data and objects; torch.save writes 2 by default.
OPCODE_NAMES = frozenset(
    name
    for names in (
        "PROTO FRAME STOP MARK",
        "NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT",
        "BINUNICODE SHORT_BINUNICODE BINBYTES SHORT_BINBYTES",
        "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS",
        "EMPTY_DICT SETITEM SETITEMS EMPTY_SET ADDITEMS FROZENSET",
        "BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET",
        "GLOBAL STACK_GLOBAL REDUCE NEWOBJ BUILD BINPERSID",
    )
    for name in names.split()
)
MAKING = frozenset(
    ["TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET", "FROZENSET", "REDUCE", "NEWOBJ"]
)
OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}
# Code -> name, what reads its argument, whether it makes an object.
_ALLOWED: Mapping[bytes, Tuple[str, Any, bool]] = {
    code: (opcode.name, opcode.arg.reader if opcode.arg else None, opcode.name in MAKING)
    for code, opcode in OPCODES.items()
    if opcode.name in OPCODE_NAMES
}

# Modules no training object lives in; their functions run programs, import, load, write or reach the network.
_RUNNING = frozenset(
    (
        *("os", "posix", "nt", "sys", "subprocess", "commands", "pty", "shutil", "socket", "socketserver", "ssl"),
        *("importlib", "runpy", "imp", "pkgutil", "zipimport", "pip", "ensurepip", "venv", "site"),
        *("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "copyreg", "copy_reg"),
        *("ctypes", "cffi", "mmap", "code", "codeop", "types", "inspect", "ast", "operator", "_operator", "gc"),
        *("webbrowser", "http", "urllib", "urllib2", "requests", "httpx", "aiohttp", "ftplib", "smtplib", "telnetlib"),
        *("asyncio", "multiprocessing", "threading", "_thread", "concurrent", "signal", "sched", "atexit"),
        *("io", "_io", "tempfile", "glob", "fileinput", "linecache", "timeit", "trace", "pdb", "bdb", "cProfile"),
        *("profile", "pydoc", "doctest", "unittest", "idlelib", "lib2to3", "distutils", "setuptools"),
    )
)
_RUNNING_NAMES = frozenset(
    (
        *("torch.load", "torch.save", "torch.compile", "torch.storage._load_from_bytes", "torch.package"),
        *("numpy.load", "numpy.save", "numpy.fromfile", "numpy.memmap", "numpy.loadtxt", "numpy.genfromtxt"),
        *("pandas.read_pickle", "pandas.eval", "yaml.load", "yaml.unsafe_load", "codecs.open", "logging.config.listen"),
    )
)
_RUNNING_PACKAGES = (
    *("torch.hub.", "torch.jit.", "torch.serialization.", "torch.package.", "torch.utils.cpp_extension."),
    *(
        "torch.distributed.rpc.",
        "torch._inductor.",
        "numpy.testing.",
        "numpy.f2py.",
        "numpy.distutils.",
        "numpy.ctypeslib.",
    ),
)
_HARMLESS = frozenset(
    ("types.SimpleNamespace", "types.NoneType", "io.BytesIO", "io.StringIO", "torch.serialization._get_layout")
)
# Of the builtins, the types that describe data; the others run or reach things.
_TYPES = frozenset(
    (
        *("list", "dict", "tuple", "set", "frozenset", "str", "bytes", "bytearray", "int", "float", "bool", "complex"),
        *("object", "type", "range", "xrange", "slice", "unicode", "long", "NotImplemented", "Ellipsis", "memoryview"),
    )
)
BUILTINS = ("builtins", "__builtin__")
GETATTR = frozenset(f"{module}.getattr" for module in BUILTINS)

Resolve = Callable[[str, str], object]


class Budget:
    """Bytes a pickle may make by calls and by copying state, beyond what its own bytes hold."""

    def __init__(self) -> None:
        self.left = MAX_MADE_BYTES

    def spend(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise Refused(
                f"its pickle makes more than {MAX_MADE_BYTES >> 20} MiB by repeating a few values; nothing was executed"
            )


class Names:
    """Resolves what a pickle names, by a list; what is not on it becomes opaque data unless it runs things.

    known: what replaces a name, None for one that is not on the list; unknown: makes the opaque stand-in.
    """

    def __init__(self, known: Resolve, unknown: Resolve) -> None:
        self._known, self._unknown = known, unknown
        self._suspected: List[str] = []  # `getattr`: how enumerations are pickled, and attacks begin

    def __call__(self, module: str, name: str) -> object:
        qualified = f"{module}.{name}"
        if not name.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
            raise Refused(f"names {quoted(qualified)}, which is not the name of a known class; nothing was executed")
        found = self._known(module, name)
        if found is not None:
            if qualified in GETATTR:
                self._suspected.append(qualified)
            return found
        if runs_things(module, name):
            before = "".join(f"{quoted(one)} and " for one in self._suspected[-1:])
            raise Refused(
                f"names {before}{quoted(qualified)}, which runs code in a program that trusts the file; nothing was executed"
            )
        return self._unknown(module, name)


def runs_things(module: str, name: str) -> bool:
    """Whether a name is a function that runs, imports, loads or writes things, as far as names show that."""
    qualified = f"{module}.{name}"
    if module in BUILTINS:
        return not (name in _TYPES or name.endswith(("Error", "Exception", "Warning")))
    if qualified in _HARMLESS:
        return False
    return (
        module.partition(".")[0] in _RUNNING or qualified in _RUNNING_NAMES or qualified.startswith(_RUNNING_PACKAGES)
    )


def scan(data: bytes, what: str, names: Resolve) -> None:
    """Refuse a pickle for an operation or a static name before any of it runs. what: how messages call it.

    This does what `pickletools.genops` does, with two differences: an operation is refused before its
    argument is decoded, which can take hours (decimal integers), and names are read as the interpreter
    reads them (pickletools resolves backslashes).
    """
    stream = io.BytesIO(data)
    made = 0
    for _ in range(MAX_OPCODES):
        code = stream.read(1)
        if not code:
            raise Refused(f"its {what} is malformed (it ends before its end mark)")
        entry = _ALLOWED.get(code)
        if entry is None:
            operation = OPCODES[code].name if code in OPCODES else repr(code)
            raise Refused(f"its {what} uses the operation {operation}, which torch.save does not write")
        operation, reader, makes = entry
        made += makes
        if operation == "GLOBAL":
            module, name = stream.readline()[:-1], stream.readline()[:-1]
            names(module.decode("utf-8"), name.decode("utf-8"))
            continue
        argument: Any = reader(stream) if reader else None
        if operation == "STOP":
            if stream.read(1):
                raise Refused(f"its {what} is malformed (data after its end mark)")
            if made > MAX_OBJECTS:
                raise Refused(f"its {what} makes {made} objects, more than {MAX_OBJECTS}")
            return
        if operation == "LONG_BINPUT" and argument >= len(data):
            raise Refused(f"its {what} is malformed (memo index {argument} in {len(data)} bytes)")
        if operation == "LONG1" and argument.bit_length() > MAX_INTEGER_BITS:
            raise Refused(f"its {what} holds an integer of {argument.bit_length()} bits")
    raise Refused(f"its {what} has more than {MAX_OPCODES} operations")
