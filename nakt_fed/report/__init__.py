"""`report.html` of a run: what `results.json` and the stores of one run folder hold, for people. Start reading in `page.py`."""

from nakt_fed.report.page import write_report

__all__ = ["write_report"]
