"""What is made of what, in a file and in a recorded run: neighbours of a tensor among those that are known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import AbstractSet, Dict, Generic, Hashable, List, Mapping, Sequence, Set, Tuple, TypeVar

Name = TypeVar("Name", bound=Hashable)


@dataclass
class Flow(Generic[Name]):
    """reads: for each tensor, in the order they are made, the tensors it is made of."""

    reads: Mapping[Name, Sequence[Name]]
    readers: Dict[Name, List[Name]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, sources in self.reads.items():
            for source in sources:
                self.readers.setdefault(source, []).append(name)

    def before(self, name: Name, known: Set[Name]) -> Tuple[List[Name], List[Name]]:
        """The nearest known tensors that a tensor is made of, and what is made between them and it, itself included, in order."""
        ends: Set[Name] = set()
        between: Set[Name] = {name}
        left = [name]
        while left:
            for source in self.reads.get(left.pop(), ()):
                if source in known:
                    ends.add(source)
                elif source not in between:
                    between.add(source)
                    left.append(source)
        order = {one: number for number, one in enumerate(self.reads)}
        key = lambda one: order.get(one, -1)  # noqa: E731
        return sorted(ends, key=key), sorted(between, key=key)

    def lost(self, known: Set[Name]) -> List[Name]:
        """Tensors that are not known and of which, through others like them, something is made of which nothing known is; in order.
        Some of what is made of them may be known: a slice that has nothing of what is wrong."""
        leads: Set[Name] = set()
        order = list(self.reads)
        for name in reversed(order):
            if any(reader in known or reader in leads for reader in self.readers.get(name, ())):
                leads.add(name)
        found = {name for name in order if name not in known and name not in leads}
        for name in reversed(order):
            if name not in known and any(reader in found for reader in self.readers.get(name, ())):
                found.add(name)
        return [name for name in order if name in found]


def flow(reads: Mapping[Name, Sequence[Name]], fixed: AbstractSet[Name]) -> Flow[Name]:
    """fixed: tensors that depend on nothing but shapes; what they read of others is left out."""
    return Flow(
        {
            name: [one for one in sources if one in fixed] if name in fixed else list(sources)
            for name, sources in reads.items()
        }
    )
