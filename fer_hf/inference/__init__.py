"""Trained models outside of training: faces in photos, and export to ONNX."""

from fer_hf.inference.detectors import Detection, DetectorError, FaceDetector, get_detector
from fer_hf.inference.onnx_file import ExportError, ExportMismatchError, export_onnx
from fer_hf.inference.pipeline import FacialExpressionPipeline


__all__ = [
    "Detection",
    "DetectorError",
    "ExportError",
    "ExportMismatchError",
    "FaceDetector",
    "FacialExpressionPipeline",
    "export_onnx",
    "get_detector",
]
