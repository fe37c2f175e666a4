"""The models of doctor_models.py after following the doctor's advice, under the same names: each scripts and can be saved."""

from typing import Dict, List, Optional, Tuple

import numpy as np
import torch
from torch import Tensor, nn


def relus(count=2):
    return nn.ModuleList([nn.ReLU() for _ in range(count)])


class AttributeInForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.size: List[int] = [0, 0]

    def forward(self, x):
        self.size = x.shape[-2:]
        return x


class MixedRoutes(nn.Module):
    def __init__(self):
        super().__init__()
        self.routes: List[List[int]] = [[-1], [0, -1]]

    def forward(self, x):
        for route in self.routes:
            x = x + len(route)
        return x


class KindOfModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.m = relus()
        self.runs: List[bool] = [isinstance(layer, nn.ReLU) for layer in self.m]

    def forward(self, x):
        for i, layer in enumerate(self.m):
            if self.runs[i]:
                x = layer(x)
        return x


class CacheOfNone(nn.Module):
    def __init__(self):
        super().__init__()
        self.grid: List[Tensor] = [torch.zeros(1), torch.zeros(1)]

    def forward(self, x):
        self.grid[0] = torch.ones_like(x)
        return x


class ByName(nn.Module):
    def __init__(self):
        super().__init__()
        self.levels = relus(1)

    def forward(self, x):
        for level in self.levels:
            x = level(x)
        return x


class StarSignature(nn.Module):
    def forward(self, xs: List[Tensor]):
        return xs[0]


class Formatted(nn.Module):
    def forward(self, x):
        print(f"{x.shape[0]}")
        return x


class ZipOfLists(nn.Module):
    def __init__(self):
        super().__init__()
        self.m = relus()

    def forward(self, xs: List[Tensor]):
        out: List[Tensor] = []
        for i, layer in enumerate(self.m):
            out.append(layer(xs[i]))
        return out


class IndexedByVariable(ZipOfLists):
    pass


class NoneUsed(nn.Module):
    scale: Optional[Tensor]

    def __init__(self):
        super().__init__()
        self.scale = None

    def forward(self, x):
        scale = self.scale
        if scale is not None:
            x = x * scale
        return x


class ListUnannotated(nn.Module):
    def forward(self, xs: List[Tensor]):
        return torch.cat(xs, 1)


class FlagUnannotated(nn.Module):
    def scaled(self, x, flag: bool = False, mask: Optional[Tensor] = None):
        return x * 2 if flag else x

    def forward(self, x):
        return self.scaled(x, True)


class LambdaAttribute(nn.Module):
    def __init__(self):
        super().__init__()
        self.act = nn.SiLU()

    def forward(self, x):
        return self.act(x)


class NumpyUfunc(nn.Module):
    def __init__(self):
        super().__init__()
        self.root = float(np.sqrt(2.0))

    def forward(self, x):
        return x * self.root


class MixedReturn(nn.Module):
    def forward(self, x) -> Tuple[Tensor, List[Tensor]]:
        if self.training:
            return x, [x]
        return x, [x]


class TwoOutputs(nn.Module):
    def forward(self, x):
        return x, x


class SequentialOfMixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.m = nn.ModuleList([TwoOutputs(), nn.ReLU()])

    def forward(self, x):
        return self.m[1](self.m[0](x)[0])


class Settings(nn.Module):
    rest: Dict[str, int]

    def __init__(self):
        super().__init__()
        yaml = {"nc": 3, "anchors": [[10, 13]]}
        self.nc = int(yaml["nc"])
        self.rest = {}

    def forward(self, x):
        return x * self.nc + len(self.rest)


class ModulesInList(ByName):
    pass


class OnTheClass(nn.Module):
    __constants__ = ("scale",)
    scale = 2.0

    def forward(self, x):
        return x * self.scale


class NotThere(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = 2.0

    def forward(self, x):
        return x * self.scale


class Half(nn.Module):
    def half_of(self, x):
        return x / 2

    def forward(self, x):
        return self.half_of(x)


class SuperForward(Half):
    def forward(self, x):
        return self.half_of(x)


class ListOfNone(nn.Module):
    def forward(self, x):
        stored: List[Tensor] = []
        now = x
        for i in range(3):
            now = now + 1
            stored.append(now if i in [0, 2] else x)
        return now


class One(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = nn.ReLU()

    def forward(self, xs: List[Tensor]) -> Tensor:
        return self.block(xs[0])


class OneForAll(nn.Module):
    def __init__(self):
        super().__init__()
        self.m = nn.ModuleList([One(), One()])

    def forward(self, xs: List[Tensor]):
        return [layer(xs) for layer in self.m]


class NewTensor(nn.Module):
    def forward(self, x):
        return x.new_zeros(2) + x.detach().sum()


class TriedOut(nn.Module):
    def forward(self, x):
        return x + 1


class FromOutside(NotThere):
    pass


class Ignored(NumpyUfunc):
    pass


class Unused(NumpyUfunc):
    pass


class Hooked(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.ReLU()
        self.inner.register_forward_hook(lambda module, args, output: None).remove()

    def forward(self, x):
        return self.inner(x)


class Retyped(nn.Module):
    def forward(self, x):
        xs = [x]
        return xs
