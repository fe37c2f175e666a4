"""The parts of a module of any kind that may stay in float32 while the rest is in half precision."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Tuple

from torch import nn

SEVERAL = 4  # parts that are named one by one; of more the first, the last, and the halves of what lies before it
LISTS = (nn.ModuleList, nn.ModuleDict)  # which do not run themselves


def parts(module: nn.Module, run: Callable[[nn.Module], Any]) -> Dict[str, Tuple[str, ...]]:
    """Paths of modules by what they are called, in the order they run: the children of the first module that has more than one with
    weights, or their first, their last and the halves of what lies before that."""
    children = _running(module, run)
    names = list(children)
    if len(names) <= SEVERAL:
        return children
    middle = len(names) // 2
    found: Dict[str, Tuple[str, ...]] = {}
    for some in (names[:1], names[:middle], names[middle:-1], names[-1:]):
        title = some[0] if len(some) == 1 else f"{some[0]} to {some[-1]}"
        found[title] = tuple(path for name in some for path in children[name])
    return found


def _running(module: nn.Module, run: Callable[[nn.Module], Any]) -> Dict[str, Tuple[str, ...]]:
    """The children that run, in order, of the first module with more than one that has weights; of lists their members."""
    path, part = "", module
    while True:
        weighty = [(name, child) for name, child in part.named_children() if any(True for _ in child.parameters())]
        if len(weighty) != 1:
            break
        path, part = f"{path}.{weighty[0][0]}".lstrip("."), weighty[0][1]
    paths: Dict[str, Tuple[str, ...]] = {}
    order: Dict[str, None] = {}
    hooks: List[Any] = []
    for name, child in weighty:
        title = f"{path}.{name}".lstrip(".")
        members = (
            [(f"{title}.{key}", one) for key, one in child.named_children()]
            if isinstance(child, LISTS)
            else [(title, child)]
        )
        paths[title] = tuple(member for member, _ in members)
        for _, one in members:
            hooks.append(
                one.register_forward_pre_hook(lambda _module, _given, title=title: order.update({title: None}))
            )
    try:
        run(module)
    finally:
        for hook in hooks:
            hook.remove()
    return {title: paths[title] for title in order}
