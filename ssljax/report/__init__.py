"""What people look at: the report, the progress line and metrics.jsonl."""

from ssljax.report.build import write

__all__ = ['write']
