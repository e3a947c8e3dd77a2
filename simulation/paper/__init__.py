"""`nakt paper`: the paper's experiments as cells, made on Ray, and what comes out of them as tables and figures."""
