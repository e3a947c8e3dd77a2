"""nakt-fed: teachers of many hospitals become one student, without a picture or a weight leaving a site (arXiv 2101.09560)."""

__version__ = "0.1.0"
