"""One small module for each mistake that the script doctor knows, marked at the line it must name. Imported by the doctor alone."""

from collections import OrderedDict
from typing import Dict, List, Optional

import numpy as np
import torch
from torch import Tensor, nn

SCALE = 2.0


def relus(count=2):
    return nn.ModuleList([nn.ReLU() for _ in range(count)])


class Healthy(nn.Module):
    """Near every mistake and none of them: a literal index, a cache that keeps its type, isinstance as a complete condition."""

    def __init__(self):
        super().__init__()
        self.m = relus()
        self.grid = [torch.zeros(1), torch.zeros(1)]
        self.steps: Dict[str, int] = {"one": 1}
        self.scale: Optional[float] = None

    def forward(self, xs: List[Tensor], twice: bool = False) -> List[Tensor]:
        out: List[Tensor] = []
        for i, layer in enumerate(self.m):
            if isinstance(layer, nn.ReLU):
                out.append(layer(xs[i]))
        self.grid[0] = self.m[0](out[0])
        scale = self.scale
        if scale is not None:
            out[0] = out[0] * scale
        if not torch.jit.is_scripting():
            out[0] = torch.from_numpy(out[0].numpy())
        print(f"{len(out)} levels, {self.steps['one']}")
        return out + out if twice else out


class AttributeInForward(nn.Module):
    def forward(self, x):
        self.size = x.shape[-2:]  # <- AttributeInForward
        return x


class AttributeReadFirst(nn.Module):
    """The attribute is there after a first run only."""

    def forward(self, x):
        return x + self.shift  # <- AttributeReadFirst

    def warm(self, x):
        self.shift = x.mean()


class MixedRoutes(nn.Module):
    def __init__(self):
        super().__init__()
        self.routes = [-1, [0, -1]]
        self.m = relus()

    def forward(self, x):
        for _ in self.routes:  # <- MixedRoutes
            x = x + 1
        return x


class MixedLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.m = relus()
        self.m[0].f, self.m[1].f = -1, [0, -1]

    def forward(self, x):
        stored: List[Tensor] = [x]
        for layer in self.m:
            if layer.f != -1:
                x = torch.stack([x if j == -1 else stored[j] for j in layer.f]).sum(0)  # <- MixedLayers
            x = layer(x)
        return x


class KindOfModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.m = relus()

    def forward(self, x):
        for layer in self.m:
            if type(layer) is nn.ReLU:  # <- KindOfModule
                x = layer(x)
        return x


class IsinstanceUnmet(nn.Module):
    def __init__(self):
        super().__init__()
        self.m = relus()

    def forward(self, x):
        for layer in self.m:
            if isinstance(layer, (nn.ReLU, nn.Hardtanh)):  # <- IsinstanceUnmet
                x = layer(x)
        return x


class CacheOfNone(nn.Module):
    def __init__(self):
        super().__init__()
        self.grid = [None] * 2

    def forward(self, x):
        if self.grid[0] is None:
            self.grid[0] = torch.ones_like(x)  # <- CacheOfNone
        return x


class CacheEmpty(nn.Module):
    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(x)  # <- CacheEmpty
        return x


class CacheRebound(nn.Module):
    def __init__(self):
        super().__init__()
        self.grid = None

    def forward(self, x):
        self.grid = torch.ones_like(x)  # <- CacheRebound
        return x


class Ignored(nn.Module):
    @torch.jit.ignore
    def measure(self, x):
        return x * float(np.sqrt(2.0))

    def forward(self, x):
        return self.measure(x)  # <- Ignored


class IgnoredChild(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Ignored()

    def forward(self, x):
        return self.inner(x)


class Unused(nn.Module):
    @torch.jit.unused
    def measure(self, x):
        return x * float(np.sqrt(2.0))

    def forward(self, x):
        return self.measure(x)  # <- Unused


class UnusedForward(nn.Module):
    @torch.jit.unused  # <- UnusedForward
    def forward(self, x):
        return x


class ByName(nn.Module):
    def __init__(self):
        super().__init__()
        self.level0 = nn.ReLU()

    def forward(self, x):
        for i in range(1):
            x = getattr(self, "level" + str(i))(x)  # <- ByName
        return x


class AskedByName(nn.Module):
    def forward(self, x):
        name = "bn"
        return x if hasattr(self, name) else x + 1  # <- AskedByName


class StarSignature(nn.Module):
    def forward(self, *xs):  # <- StarSignature
        return xs[0]


class StarCall(nn.Module):
    def __init__(self):
        super().__init__()
        self.m = nn.ReLU()

    def forward(self, x):
        args = [x]
        return self.m(*args)  # <- StarCall


class Formatted(nn.Module):
    def forward(self, x):
        print(f"{x.shape[0]:>4}")  # <- Formatted
        return x


class ZipOfLists(nn.Module):
    def __init__(self):
        super().__init__()
        self.m = relus()

    def forward(self, xs: List[Tensor]):
        return [layer(x) for layer, x in zip(self.m, xs)]  # <- ZipOfLists


class SumOfTensors(nn.Module):
    def __init__(self):
        super().__init__()
        self.m = relus()

    def forward(self, x):
        return sum(layer(x) for layer in self.m)  # <- SumOfTensors


class IndexedByVariable(nn.Module):
    def __init__(self):
        super().__init__()
        self.m = relus()

    def forward(self, xs: List[Tensor]):
        for i in range(2):
            xs[i] = self.m[i](xs[i])  # <- IndexedByVariable
        return xs


class NoneUsed(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = None

    def forward(self, x):
        return x * self.scale  # <- NoneUsed


class ListUnannotated(nn.Module):
    def forward(self, xs):
        return torch.cat(xs, 1)  # <- ListUnannotated


class FlagUnannotated(nn.Module):
    def scaled(self, x, flag):
        return x * 2 if flag else x

    def forward(self, x):
        return self.scaled(x, True)  # <- FlagUnannotated


class NoneUnannotated(nn.Module):
    """Scripts in later versions of torch (1.12 does), and then cannot be saved."""

    def forward(self, x, mask=None):  # <- NoneUnannotated
        return x


class LambdaAttribute(nn.Module):
    def __init__(self):
        super().__init__()
        self.act = lambda x: x * torch.sigmoid(x)

    def forward(self, x):
        return self.act(x)  # <- LambdaAttribute


class LambdaInside(nn.Module):
    def forward(self, x):
        half = lambda t: t / 2  # noqa: E731  <- LambdaInside
        return half(x)


class NumpyArray(nn.Module):
    def forward(self, x):
        return x * torch.from_numpy(np.arange(3.0))  # <- NumpyArray


class NumpyUfunc(nn.Module):
    """The compiler fails over it without saying where."""

    def forward(self, x):
        return x * float(np.sqrt(2.0))  # <- NumpyUfunc


class MixedReturn(nn.Module):
    def forward(self, x):
        if self.training:
            return x
        return x, [x]  # <- MixedReturn


class TwoOutputs(nn.Module):
    def forward(self, x):
        return x, x


class SequentialOfMixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.m = nn.Sequential(OrderedDict(two=TwoOutputs(), one=nn.ReLU()))

    def forward(self, x):
        return self.m[1](self.m[0](x)[0])


class Settings(nn.Module):
    def __init__(self):
        super().__init__()
        self.yaml = {"nc": 3, "anchors": [[10, 13]]}

    def forward(self, x):
        return x * self.yaml["nc"]  # <- Settings


class ModulesInList(nn.Module):
    def __init__(self):
        super().__init__()
        self.m = nn.ReLU()
        self.layers = [self.m]

    def forward(self, x):
        for layer in self.layers:  # <- ModulesInList
            x = layer(x)
        return x


class OnTheClass(nn.Module):
    scale = 2.0

    def forward(self, x):
        return x * self.scale  # <- OnTheClass


class NotThere(nn.Module):
    def forward(self, x):
        return x * self.scale  # <- NotThere


class SuperForward(LambdaInside):
    def forward(self, x):
        return super().forward(x)  # <- SuperForward


class ListOfNone(nn.Module):
    def forward(self, x):
        stored = []
        for i in range(3):
            stored.append(x if i in [0, 2] else None)  # <- ListOfNone
        return x


class OneForAll(nn.Module):
    def __init__(self):
        super().__init__()
        self.m = relus()

    def forward(self, xs: List[Tensor]):
        return [layer(xs) for layer in self.m]  # <- OneForAll


class NewTensor(nn.Module):
    def forward(self, x):
        return x.new(2).zero_()  # <- NewTensor


class TriedOut(nn.Module):
    def forward(self, x):
        try:  # <- TriedOut
            return x + 1
        except RuntimeError:
            return x


class FromOutside(nn.Module):
    def forward(self, x):
        return x * SCALE  # <- FromOutside


class Hooked(nn.Module):
    """Scripts on torch 1.7, which leaves hooks alone."""

    def __init__(self):
        super().__init__()
        self.inner = nn.ReLU()
        self.inner.register_forward_hook(lambda module, args, output: None)

    def forward(self, x):
        return self.inner(x)


def route_of(layer):
    return layer.f  # <- HelperUnannotated


class HelperUnannotated(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.ReLU()
        self.inner.f = 1

    def forward(self, x):
        return self.inner(x) * route_of(self.inner)


class Several(nn.Module):
    """The compiler names the first; the others are read."""

    def __init__(self):
        super().__init__()
        self.m = relus()
        self.grid = [None] * 2

    def forward(self, xs: List[Tensor]):
        for i in range(2):
            xs[i] = self.m[i](xs[i])  # <- Several
            self.grid[i] = xs[i]  # <- SeveralCache
        return xs if self.training else (torch.cat(xs, 1), xs)  # <- SeveralReturn


class Parent(nn.Module):
    """Fails on its own account, beside children that fail on theirs."""

    def __init__(self):
        super().__init__()
        self.first = ListUnannotated()
        self.second = nn.ModuleList([LambdaAttribute() for _ in range(3)])

    def forward(self, x):
        x = self.first([x, x])
        for layer in self.second:
            x = layer(x)
        return x + self.shift  # <- Parent


class Bystander(nn.Module):
    """Does nothing wrong itself."""

    def __init__(self):
        super().__init__()
        self.inner = LambdaAttribute()
        self.pair = MixedReturn()

    def forward(self, x):
        y, _ = self.pair(self.inner(x))
        return y


class WithArguments(nn.Module):
    def __init__(self, width, scale=1.0):
        super().__init__()
        self.m = nn.Conv2d(3, int(width * scale), 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.m(x)


class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        raise ValueError("no weights here")


class Plain:
    """No module at all."""


def factory():
    return Healthy()


instance = Healthy()
listed = TwoOutputs()(torch.zeros(1))
result = WithArguments(4)(torch.zeros(1, 3, 2, 2))
