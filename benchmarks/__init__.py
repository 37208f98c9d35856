"""What irpipe's shortcuts are worth: each line a ratio, both sides timed in turns in one run, with equal numbers.

`python -m benchmarks` from the project's root.
"""
