"""Speed and memory against plain loops in the same run: `python -m benchmarks` prints all tables, `python -m benchmarks.X` one."""
