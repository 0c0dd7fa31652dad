"""Time on other devices: pieces of codecs as ONNX models, what runs them there, and its CSV read back."""
