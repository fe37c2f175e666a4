"""A runtime of MLServer that runs an ONNX file, for the tests against a real server (tests/engines/test_real_servers.py)."""

from __future__ import annotations

import os
from typing import Any

import onnxruntime as ort
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class OnnxModel(MLModel):  # type: ignore[misc]
    """`parameters.uri` of its settings is the file."""

    async def load(self) -> bool:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session: Any = ort.InferenceSession(
            self.settings.parameters.uri, options, providers=["CPUExecutionProvider"]
        )
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        feed = {one.name: NumpyCodec.decode_input(one) for one in payload.inputs}
        if "DETPARITY_BATCHES" in os.environ:
            with open(os.environ["DETPARITY_BATCHES"], "a", encoding="utf-8") as noted:
                print(len(next(iter(feed.values()))), file=noted)
        names = [one.name for one in self._session.get_outputs()]
        outputs = [NumpyCodec.encode_output(*pair) for pair in zip(names, self._session.run(names, feed))]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)
