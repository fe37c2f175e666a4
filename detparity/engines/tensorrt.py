"""A TensorRT engine built from the file, where tensorrt is installed and a GPU is there. Optional: its absence is never a failure."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Union

import numpy as np
import tensorrt as trt
import torch

from detparity.core.errors import EngineError
from detparity.core.vocabulary import Arrays, Load, Runner


def prepare(source: Union[str, Path], how: Load = Load()) -> Runner:
    """Parse the ONNX file, build an engine for the shapes of each call, and run it on the first GPU.

    Raises EngineError where there is no GPU, or TensorRT refuses the file.
    """
    if not torch.cuda.is_available():
        raise EngineError("no GPU is there to run TensorRT on")
    logger = trt.Logger(trt.Logger.ERROR)
    trt.init_libnvinfer_plugins(logger, "")
    engines: Dict[Any, Any] = {}

    def build(shape: Any) -> Any:
        builder = trt.Builder(logger)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
        parser = trt.OnnxParser(network, logger)
        if not parser.parse(Path(source).read_bytes()):
            raise EngineError(
                "TensorRT refuses the file: " + "; ".join(str(parser.get_error(k)) for k in range(parser.num_errors))
            )
        config, profile = builder.create_builder_config(), builder.create_optimization_profile()
        profile.set_shape(network.get_input(0).name, shape, shape, shape)
        config.add_optimization_profile(profile)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise EngineError("TensorRT could not build an engine from the file")
        return trt.Runtime(logger).deserialize_cuda_engine(plan)

    def call(feed: Arrays) -> Arrays:
        images = torch.from_numpy(np.array(feed["images"])).cuda().contiguous()
        shape = tuple(images.shape)
        if shape not in engines:
            engines[shape] = build(shape)
        engine = engines[shape]
        context = engine.create_execution_context()
        context.set_input_shape(engine.get_tensor_name(0), shape)
        held: Dict[str, torch.Tensor] = {engine.get_tensor_name(0): images}
        for index in range(1, engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            kind = torch.int32 if engine.get_tensor_dtype(name) == trt.int32 else torch.float32
            held[name] = torch.zeros(tuple(context.get_tensor_shape(name)), dtype=kind, device="cuda")
        for name, tensor in held.items():
            context.set_tensor_address(name, tensor.data_ptr())
        stream = torch.cuda.current_stream()
        context.execute_async_v3(stream.cuda_stream)
        stream.synchronize()
        return {name: tensor.cpu().numpy() for name, tensor in list(held.items())[1:]}

    return Runner("tensorrt", call, {"tensorrt": trt.__version__, "device": torch.cuda.get_device_name(0)})
