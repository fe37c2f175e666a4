"""Operators and graphs in float64 for `engines/onnx_exact.py`: those of onnx's reference evaluator that are slow or wrong, again."""
