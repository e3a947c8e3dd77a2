"""A hospital's side of a deployment: its file, its policy gate, its receipts, its service on a local socket."""
