"""ONNX, bundles and model cards. Nothing stands here yet."""
