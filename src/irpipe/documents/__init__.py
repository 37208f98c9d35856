"""Documents whose numbers come from result files: docs/reproduction.md, verdict.md, benchmarks.md.

A template in docs/templates has the sentences and names the numbers; the page ends with the list
of them. So a page can be made from a folder of results, or again from its own list.
"""
