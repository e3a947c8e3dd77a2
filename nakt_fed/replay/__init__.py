"""A finished run, studied again from what it has stored: no site is asked (docs/research.md). Start in `stored.py`."""
