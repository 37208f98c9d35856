"""Tables, figures, the report page. Inputs: results, training logs, benchmarks."""


report: "../report/workflow.rst"


rule table:
    """A table as CSV, Parquet, Markdown, LaTeX and HTML."""
    input:
        lambda w: results("tables", w.table),
    output:
        multiext("results/tables/table_{table}", ".csv", ".parquet", ".md", ".tex"),
        report(
            "results/tables/table_{table}.html",
            caption="../report/table.rst",
            category=lambda w: captions.part(w.table),
            subcategory="Tables",
            labels=lambda w: report_label("tables", w.table),
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
        table=lambda w: entry_argument("tables", w.table),
        code_hash=lambda w: code_hash.of_report(kind("tables", w.table)),
        folder=output_dir,
    shell:
        "irpipe report --table {params.table:q} {input:q} --code {params.code_hash}"
        " --output {params.folder:q} > {log:q} 2>&1"


rule figure:
    """A figure as PNG, PDF and SVG."""
    input:
        lambda w: results("figures", w.figure),
        TRAINING_LOGS,
    output:
        report(
            "results/figures/figure_{figure}.png",
            caption="../report/figure.rst",
            category=lambda w: captions.part(w.figure),
            subcategory="Figures",
            labels=lambda w: report_label("figures", w.figure),
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
        figure=lambda w: entry_argument("figures", w.figure),
        code_hash=lambda w: code_hash.of_report(kind("figures", w.figure)),
        folder=output_dir,
    shell:
        "irpipe report --figure {params.figure:q} {input:q} --code {params.code_hash}"
        " --output {params.folder:q} > {log:q} 2>&1"


rule job_costs:
    """A figure of what the jobs cost; the last thing made for the report page."""
    input:
        TABLES,
        FIGURES,
    output:
        report(
            "results/benchmarks/figure_jobs.png",
            caption="../report/job_costs.rst",
            category="What it cost",
            labels={"shows": "Seconds and memory of every job"},
        ),
        multiext("results/benchmarks/figure_jobs", ".pdf", ".svg", ".sha256"),
    log:
        "results/logs/job_costs.log",
    localrule: True
    conda:
        "../envs/irpipe.yaml"
    params:
        code_hash=code_hash.of_report("job_costs"),
        folder=output_dir,
    shell:
        "irpipe report --figure 'jobs={{kind: job_costs, title: What the jobs cost}}'"
        " {params.folder:q}"
        " --code {params.code_hash} --output {params.folder:q} > {log:q} 2>&1"


rule page:
    """All tables and figures on one page."""
    input:
        TABLES,
        FIGURES,
        rules.job_costs.output,
    output:
        "results/report.html",
    log:
        "results/logs/page.log",
    localrule: True
    conda:
        "../envs/irpipe.yaml"
    params:
        config=json.dumps(CONFIG, sort_keys=True),
        code_hash=code_hash.of_report("paper_page"),
        folder=output_dir,
    shell:
        "irpipe page --json {params.config:q} {params.folder:q}"
        " --code {params.code_hash} --output {output:q} > {log:q} 2>&1"
