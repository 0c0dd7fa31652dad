"""Time on other devices: ONNX models of a run's pieces, a runner for them, and a reader of its CSV."""
