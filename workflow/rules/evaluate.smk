"""Attacks. Inputs: checkpoints, data sets. Outputs: one result per network and attack."""


rule evaluate:
    """Attack a network at every eps and step count in one job."""
    input:
        data="results/data/{dataset}.test.json",
        network="results/{dataset}/{model}/{method}/{run}/network.safetensors",
        surrogates=lambda w: CONFIG["attacks"][w.attack].get("surrogates", []),
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
    threads: lambda w: 1 if is_proof(w) else cores_per_job()
    resources:
        gpu=1,
        mem_mb=lambda w, attempt: 4000 * attempt,
        runtime=lambda w, attempt: (240 if is_proof(w) else 30) * attempt,
    params:
        network=lambda w, input: shlex.join(["--checkpoint", input.network]),
        # Snakemake reruns the job when this one changes, and not when paths of inputs do.
        entry=lambda w: entry_argument("attacks", w.attack),
        attack=attack_argument,
        code_hash=lambda w: code_hash.of_evaluation(
            kind("datasets", w.dataset), kind("attacks", w.attack)
        ),
        state=state_dir,
    shell:
        "irpipe evaluate {params.network} --attack {params.attack:q}"
        " --state {params.state:q}"
        " --code {params.code_hash} --output {output:q} > {log:q} 2>&1"


use rule evaluate as evaluate_external with:
    input:
        data="results/data/{dataset}.test.json",
        surrogates=lambda w: CONFIG["attacks"][w.attack].get("surrogates", []),
    output:
        "results/{dataset}/{model}/{method}/external/{attack}.h5",
    log:
        "results/logs/{dataset}/{model}/{method}/external/{attack}.log",
    benchmark:
        "results/benchmarks/{dataset}/{model}/{method}/external/{attack}.tsv"
    params:
        network=external_arguments,
        network_code=network_code,
        entry=lambda w: entry_argument("attacks", w.attack),
        attack=attack_argument,
        code_hash=lambda w: code_hash.of_evaluation(
            kind("datasets", w.dataset), kind("attacks", w.attack)
        ),
        state=state_dir,
