"""Digests of how a graph is wired, and a canonical order of its parts, both independent of names and of the file's order."""

from __future__ import annotations

import hashlib
from typing import Callable, Dict, FrozenSet, Iterable, Iterator, List, Mapping, Optional, Set, Tuple

from detparity.tools.diff.ssa import Constant, Formal, Op, Port, Scope, Source, Wiring

Label = Callable[[Constant], str]


def hashed(*parts: object) -> str:
    """A digest of strings, numbers and tuples or lists of them."""
    return hashlib.blake2b(repr(parts).encode(errors="backslashreplace"), digest_size=16).hexdigest()


class Digests:
    """One kind of digests of a file: constants enter as `label` gives them, attributes where `settings`, constants that nothing reads
    where `unused`.

    Every operator has two digests: of all that leads up to it, and of all that it leads to. The first alone would not show that one
    of two equal branches is read twice and the other never. Each is made once, after those it needs, so that the cost is linear in
    the size of the graph.
    """

    def __init__(self, label: Label, settings: bool = True, unused: bool = False) -> None:
        self._label, self._settings, self._unused = label, settings, unused
        self._labels: Dict[Constant, str] = {}
        self._scopes: Dict[Scope, str] = {}
        self.before: Dict[Op, str] = {}
        self.after: Dict[Op, str] = {}

    def source(self, source: Optional[Source]) -> str:
        """The digest of what an operator reads."""
        if source is None:
            return "absent"
        if isinstance(source, Port):
            return hashed(self.before[source.op], source.position)
        if isinstance(source, Formal):
            return f"input {source.position} at depth {source.depth}"
        if source not in self._labels:
            self._labels[source] = f"{'overridable ' if source.overridable else ''}{self._label(source)}"
        return self._labels[source]

    def of(self, scope: Scope) -> str:
        """The digest of a graph or body: of its operators, of what it takes, and of what it returns."""
        operators = self.operators(scope)  # first: it makes the digests that the sources of the outputs need
        return hashed(scope.head, scope.formals, operators, [self.source(source) for source in scope.outputs])

    def operators(self, scope: Scope) -> str:
        """The digest of the operators of a graph or body, those that lead nowhere included."""
        if scope not in self._scopes:
            for op in scope.ops:
                self.before[op] = self._before(op)
            self._look_back(scope)
            self._scopes[scope] = hashed(
                sorted((self.before[op], self.after[op]) for op in scope.ops),
                sorted(self.source(constant) for constant in scope.unused) if self._unused else [],
            )
        return self._scopes[scope]

    def _before(self, op: Op) -> str:
        settings = sorted((key, op.settings[key]) for key in op.explicit) if self._settings else []
        read = [self.source(source) for source in op.sources]
        bodies = [(attribute, self.of(body)) for attribute, body in op.bodies]
        return hashed(op.kind, op.results, settings, sorted(read) if op.commutative else read, bodies)

    def _look_back(self, scope: Scope) -> None:
        uses: Dict[Op, List[str]] = {op: [] for op in scope.ops}
        for op in reversed(scope.ops):
            self.after[op] = hashed(sorted(uses[op]))
            for slot, source in op.reads:
                if isinstance(source, Port) and source.op in uses:
                    uses[source.op].append(hashed(source.position, slot, self.before[op], self.after[op]))


class Order:
    """The canonical order of the parts of a file, independent of the file's own: what an operator reads before the operator. What
    commutes is ordered by its digest in `first`, and where these are equal in `second`."""

    def __init__(self, first: Digests, second: Digests) -> None:
        self._first, self._second = first, second

    def _rank(self, source: Source) -> Tuple[str, str]:
        return self._first.source(source), self._second.source(source)

    def _sorted(self, sources: Iterable[Source]) -> List[Source]:
        return sorted(sources, key=self._rank)

    def _reads(self, op: Op) -> List[Source]:
        read = [source for source in op.sources if source is not None]
        return self._sorted(read) if op.commutative else read

    def operators(self, scope: Scope) -> List[Op]:
        """Those of one scope in the order in which its outputs need them; what leads to no output comes last."""
        own = set(scope.ops)
        seen: Set[Op] = set()
        first, second = self._first, self._second
        last = sorted(own, key=lambda op: (first.before[op], first.after[op], second.before[op], second.after[op]))
        roots = [source.op for source in scope.outputs if isinstance(source, Port) and source.op in own]
        found: List[Op] = []
        for root in [*roots, *last]:
            stack = [] if root in seen else [(root, self._needs(root, own))]
            seen.add(root)
            while stack:
                op, waiting = stack[-1]
                following = next((other for other in waiting if other not in seen), None)
                if following is None:
                    found.append(op)
                    stack.pop()
                else:
                    seen.add(following)
                    stack.append((following, self._needs(following, own)))
        return found

    def _needs(self, op: Op, own: Set[Op]) -> Iterator[Op]:
        for source in [*self._reads(op), *self._sorted(op.captured)]:
            if isinstance(source, Port) and source.op in own:
                yield source.op

    def constants(self, wiring: Wiring) -> List[Constant]:
        """Every constant of a file once, where it is first read; those that nothing reads at the end of their scope."""
        found: Dict[Source, None] = {}
        self._collect(wiring.main, found)
        for name in sorted(wiring.functions):
            self._collect(wiring.functions[name], found)
        return [source for source in found if isinstance(source, Constant)]

    def _collect(self, scope: Scope, found: Dict[Source, None]) -> None:
        for op in self.operators(scope):
            found.update(dict.fromkeys(self._reads(op)))
            for attribute, body in op.bodies:
                if attribute:
                    self._collect(body, found)
        found.update(dict.fromkeys([*scope.outputs, *self._sorted(scope.unused)]))


def neighbourhoods(scope: Scope, view: Digests, names: Mapping[Constant, str]) -> List[str]:
    """For each operator of a scope, sorted, four digits for itself and what it reads directly, as `view` labels it, and for the
    named weights next upstream of both, which identify its position in the network.

    Two files with the same change gain and lose the same of them, whatever else differs between them.
    """
    view.operators(scope)
    upstream: Dict[Op, FrozenSet[str]] = {}
    own: Dict[Op, str] = {}
    near: List[str] = []
    for op in scope.ops:
        ports = [source for source in op.sources if isinstance(source, Port) and source.op in own]
        there = frozenset(names[source] for source in op.sources if isinstance(source, Constant) and source in names)
        upstream[op] = there or frozenset().union(*(upstream[port.op] for port in ports))
        settings = sorted((key, op.settings[key]) for key in op.explicit)
        read = ["" if isinstance(source, Port) else view.source(source) for source in op.sources]
        bodies = [(attribute, view.of(body)) for attribute, body in op.bodies]
        own[op] = hashed(op.kind, settings, sorted(read) if op.commutative else read, bodies, sorted(upstream[op]))
        before = [hashed(own[port.op], port.position) for port in ports]
        near.append(hashed(own[op], sorted(before) if op.commutative else before)[:4])
    return sorted(near)
