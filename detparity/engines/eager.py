"""The detector itself, run by PyTorch in its equivalent ways. The float64 run is the reference, the others are the noise."""

from __future__ import annotations

import warnings
from typing import Any, List

import numpy as np
import torch

from detparity.core.environment import machine
from detparity.core.vocabulary import Arrays, Load, Runner
from detparity.engines.torchscript import runner
from detparity.models.compat.onednn import onednn
from detparity.models.yolov7.detector import YoloDetector
from detparity.models.yolov7.network import Network, Predictions

# Equivalent ways of running one float32 model: different kernels and memory orders, so different rounding, nothing else.
DOUBLED = "batch"  # of them, the one that runs two images at once
WAYS = ("onednn", "channels-last", "plain", DOUBLED)


def limit_threads(count: int) -> None:
    """Let torch use this many threads from now on, in this process."""
    torch.set_num_threads(count)


def computing() -> str:
    """What the numbers of a run depend on besides the model and its input: versions, build, processor and threads."""
    backend: Any = getattr(torch.backends, "cpu", None)  # torch 2.0 and newer
    level = backend.get_cpu_capability() if backend is not None else ""
    with warnings.catch_warnings():  # a build for CUDA warns, at the first question, where there is no driver
        warnings.simplefilter("ignore")
        built = torch.__config__.show()
    versions = [str(torch.__version__), np.__version__, built, torch.get_num_threads()]
    return repr((*versions, level, sorted(machine().items())))


class _Both(torch.nn.Module):
    """Predictions and logits from one pass."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.predictions = Predictions(network)
        self.network = network

    def forward(self, images: torch.Tensor) -> List[torch.Tensor]:
        raw = self.network(images)
        return [self.predictions.decode(raw)] + raw


def prepare_head(detector: YoloDetector, head: str, threads: int = 0) -> Runner:
    """Prepare the detector as its user runs it: `head` "raw" gives the logits of each level, every other the predictions, alone.
    threads: 0 leaves the choice to torch."""
    network = detector.network.eval()
    return runner("eager", network if head == "raw" else Predictions(network).eval(), Load(threads=threads))


def prepare(detector: YoloDetector, run: str = "onednn") -> Runner:
    """Prepare the detector for one of its runs: "exact" (float64) or one of `WAYS`.

    Outputs `predictions` (B, rows, fields) and `logits_k` (B, na, ny, nx, fields) per level. "batch" runs each image as the last
    of a batch of two with its own mirror image.
    """
    module = _Both(detector.exact if run == "exact" else detector.network).eval()

    def call(feed: Arrays) -> Arrays:
        x = torch.from_numpy(np.array(feed["images"]))
        count = len(x)
        if run == "exact":
            x = x.double()
        if run == "channels-last":
            x = x.contiguous(memory_format=torch.channels_last)
        if run == DOUBLED:
            x = torch.cat([x.flip(3), x])
        with torch.no_grad(), onednn(run != "plain"):
            found = module(x)
        names = ["predictions"] + [f"logits_{index}" for index in range(len(found) - 1)]
        return {name: tensor[len(x) - count :].numpy().copy() for name, tensor in zip(names, found)}

    return Runner("eager", call, {"way": run, "torch": str(torch.__version__)})
