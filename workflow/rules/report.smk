"""Tables, figures, the report page. Inputs: results, training logs, benchmarks. Outputs: what people look at."""


report: "../report/workflow.rst"


rule table:
    """A table as CSV, Markdown, LaTeX and HTML."""
    input:
        lambda w: results("tables", w.table),
    output:
        multiext("results/tables/table_{table}", ".csv", ".md", ".tex"),
        report(
            "results/tables/table_{table}.html",
            caption="../report/table.rst",
            category=lambda w: captions.part(w.table),
            subcategory="Tables",
            labels=lambda w: shown("tables", w.table),
        ),
        "results/tables/table_{table}.sha256",
    log:
        "results/logs/tables/{table}.log",
    benchmark:
        "results/benchmarks/tables/{table}.tsv"
    localrule: True
    conda:
        "../envs/irpipe.yaml"
    params:
        table=lambda w: given("tables", w.table),
        code=lambda w: codehash.of_report(kind("tables", w.table)),
        folder=place,
    shell:
        "irpipe report --table {params.table:q} {input:q} --code {params.code} --output {params.folder:q} > {log:q} 2>&1"


rule figure:
    """A figure as PNG, PDF and SVG."""
    input:
        lambda w: results("figures", w.figure),
        LOGS,
    output:
        report(
            "results/figures/figure_{figure}.png",
            caption="../report/figure.rst",
            category=lambda w: captions.part(w.figure),
            subcategory="Figures",
            labels=lambda w: shown("figures", w.figure),
        ),
        multiext("results/figures/figure_{figure}", ".pdf", ".svg", ".sha256"),
    log:
        "results/logs/figures/{figure}.log",
    benchmark:
        "results/benchmarks/figures/{figure}.tsv"
    localrule: True
    conda:
        "../envs/irpipe.yaml"
    params:
        figure=lambda w: given("figures", w.figure),
        code=lambda w: codehash.of_report(kind("figures", w.figure)),
        folder=place,
    shell:
        "irpipe report --figure {params.figure:q} {input:q} --code {params.code} --output {params.folder:q} > {log:q} 2>&1"


rule benchmarks:
    """A figure of what the jobs cost; the last thing made for the report page."""
    input:
        TABLES,
        FIGURES,
    output:
        report(
            "results/benchmarks/figure_jobs.png",
            caption="../report/benchmarks.rst",
            category="What it cost",
            labels={"shows": "Seconds and memory of every job"},
        ),
        multiext("results/benchmarks/figure_jobs", ".pdf", ".svg", ".sha256"),
    log:
        "results/logs/benchmarks.log",
    localrule: True
    conda:
        "../envs/irpipe.yaml"
    params:
        code=codehash.of_report("benchmarks"),
        folder=place,
    shell:
        "irpipe report --figure 'jobs={{kind: benchmarks, title: What the jobs cost}}' {params.folder:q}"
        " --code {params.code} --output {params.folder:q} > {log:q} 2>&1"
