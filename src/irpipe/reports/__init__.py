"""Tables and figures. One file per kind with one function `report(results, output, *, options) -> paths`.

`output` is a path without suffix; the suffixes say what a kind writes. The keyword-only arguments are the
options of the config, with their types and defaults (`irpipe.spec`).
"""
