"""Tables and figures. Inputs: results, training logs. Outputs: what people look at."""


rule table:
    """A table as CSV, Markdown, LaTeX and HTML."""
    input:
        lambda w: results("tables", w.table),
    output:
        multiext("results/tables/table_{table}", ".csv", ".md", ".tex", ".html"),
    log:
        "results/logs/tables/{table}.log",
    benchmark:
        "results/benchmarks/tables/{table}.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    params:
        table=lambda w: given("tables", w.table),
        code=lambda w: codehash.of_report(kind("tables", w.table)),
    shell:
        "irpipe report --table {params.table:q} {input:q} --code {params.code} --output results/tables > {log:q} 2>&1"


rule figure:
    """A figure as PNG, PDF and SVG."""
    input:
        lambda w: results("figures", w.figure),
        LOGS,
    output:
        multiext("results/figures/figure_{figure}", ".png", ".pdf", ".svg"),
    log:
        "results/logs/figures/{figure}.log",
    benchmark:
        "results/benchmarks/figures/{figure}.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    params:
        figure=lambda w: given("figures", w.figure),
        code=lambda w: codehash.of_report(kind("figures", w.figure)),
    shell:
        "irpipe report --figure {params.figure:q} {input:q} --code {params.code} --output results/figures > {log:q} 2>&1"
