"""Benchmarks: the time of irpipe against the time of other programs for equal results.

Both sides are timed in turns in one run. Run `python -m benchmarks` in the project's folder.
"""
