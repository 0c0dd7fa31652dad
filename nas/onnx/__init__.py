"""Codecs as ONNX models, with an encoder and a decoder that need neither torch nor this toolkit."""
