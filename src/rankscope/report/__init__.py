"""The report of a run: one self-contained HTML page that opens from disk without a network."""

from rankscope.report.page import build_report

__all__ = ["build_report"]
