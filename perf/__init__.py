"""Benchmarks of our own speed; each module runs as `python -m perf.NAME` and ends with one JSON line."""
