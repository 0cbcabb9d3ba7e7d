"""Third parties: the only code that starts processes and imports torch, ONNX, onnxruntime or a Triton client."""
