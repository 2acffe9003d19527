"""Trained models outside of training: export to ONNX."""

from fer_hf.inference.export import ExportError, ExportMismatchError, export_onnx


__all__ = ["ExportError", "ExportMismatchError", "export_onnx"]
