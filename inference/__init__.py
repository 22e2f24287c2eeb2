"""Prediction with trained weights."""

from system.lazy import on_demand

__getattr__, __all__ = on_demand(
    __name__, {"OnnxRunner": "onnx_runner", "Predictor": "predictor", "predict_files": "images"}
)
