"""Codecs as ONNX models, with a decoder that needs neither torch nor this toolkit."""
