"""A Triton server that runs an ONNX file by nvidia-pytriton, for the tests against a real server: FILE HTTP_PORT GRPC_PORT BATCH."""

from __future__ import annotations

import os
import sys
from typing import Any, List

import numpy as np
import onnxruntime as ort
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32}


def _tensors(values: List[Any]) -> List[Any]:
    shapes = [[dim if isinstance(dim, int) else -1 for dim in one.shape[1:]] for one in values]
    return [Tensor(name=one.name, dtype=TYPES[one.type], shape=tuple(shape)) for one, shape in zip(values, shapes)]


def main(path: str, http: int, grpc: int, most: int) -> None:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]

    @batch  # type: ignore[misc]
    def run(**feed: Any) -> Any:
        if "DETPARITY_BATCHES" in os.environ:
            with open(os.environ["DETPARITY_BATCHES"], "a", encoding="utf-8") as noted:
                print(len(next(iter(feed.values()))), file=noted)
        return dict(zip(names, session.run(names, feed)))

    config = TritonConfig(
        http_address="127.0.0.1", grpc_address="127.0.0.1", http_port=http, grpc_port=grpc, allow_metrics=False
    )
    with Triton(config=config) as server:
        server.bind(
            model_name="detector",
            infer_func=run,
            inputs=_tensors(session.get_inputs()),
            outputs=_tensors(session.get_outputs()),
            config=ModelConfig(max_batch_size=most, batcher=DynamicBatcher(max_queue_delay_microseconds=100_000)),
        )
        server.serve()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
