"""Attacks. Inputs: checkpoints and data sets. Outputs: one result file for each network and attack."""


rule evaluate:
    """Attack a network at all radii and step counts at once."""
    input:
        data="results/data/{dataset}.test.json",
        network="results/{dataset}/{model}/{method}/{run}/network.safetensors",
        sources=lambda w: CONFIG["attacks"][w.attack].get("sources", []),
    output:
        "results/{dataset}/{model}/{method}/{run}/{attack}.h5",
    log:
        "results/logs/{dataset}/{model}/{method}/{run}/{attack}.log",
    benchmark:
        "results/benchmarks/{dataset}/{model}/{method}/{run}/{attack}.tsv"
    group:
        "evaluate"
    conda:
        "../envs/irpipe.yaml"
    threads: cores()
    resources:
        gpu=1,
        mem_mb=lambda w, attempt: 4000 * attempt,
        runtime=lambda w, attempt: 30 * attempt,
    params:
        attack=lambda w: given("attacks", w.attack),
        code=lambda w: codehash.of_evaluation(
            kind("datasets", w.dataset), kind("attacks", w.attack)
        ),
    shell:
        "irpipe evaluate --checkpoint {input.network:q} --attack {params.attack:q}"
        " --code {params.code} --output {output:q} > {log:q} 2>&1"
