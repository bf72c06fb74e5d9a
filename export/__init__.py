"""From a fitted network to the one ONNX file an executor serves, and the proof that they agree."""
