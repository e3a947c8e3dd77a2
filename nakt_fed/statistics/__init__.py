"""Which rows of a sweep are better than chance can tell: paired comparisons, a leaderboard, tables. Start in `rows.py`."""
