"""Scores, reports, pictures and records of runs."""

from fer_hf.evaluation.report import expression_report, report_text
from fer_hf.evaluation.run import finish_pretraining, finish_run


__all__ = ["expression_report", "finish_pretraining", "finish_run", "report_text"]
