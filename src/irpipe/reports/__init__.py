"""Tables and figures. Each kind is one file with one function:

    report(results, output, *, title, ...) -> paths

`output` is a path without suffix. The function writes its files there and returns their paths.
The keyword-only arguments are the options of the config, with their types and defaults
(`irpipe.config.kinds`). The first paragraph of a kind's docstring is its caption in the report
page.
"""
