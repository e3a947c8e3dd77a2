"""`report.html` of a run: what its results.json and its stores hold, for people. Start reading in `page.py`."""

from nakt_fed.report.page import write_report

__all__ = ["write_report"]
