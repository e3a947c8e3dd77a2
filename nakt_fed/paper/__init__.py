"""The paper's experiments (arXiv 2101.09560, section 5): its sets, its recipe, its numbers, and tables that show ours beside them."""
