"""Networks. Inputs: data sets, released networks. Outputs: checkpoints, training logs."""


envvars:
    "IRPIPE_CODE",
    "IRPIPE_DATA",
    "IRPIPE_LOCK_GPU",
    "IRPIPE_RELEASED",
    "IRPIPE_SOURCE",


rule check_data:
    """Check that a split of a data set is complete, or fetch it, and record its hash."""
    output:
        "results/data/{dataset}.{split}.json",
    log:
        "results/logs/data/{dataset}.{split}.log",
    benchmark:
        "results/benchmarks/data/{dataset}.{split}.tsv"
    localrule: True  # nodes of a cluster often have no network
    conda:
        "../envs/irpipe.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        dataset=lambda w: entry_argument("datasets", w.dataset),
        code_hash=lambda w: code_hash.of_data(kind("datasets", w.dataset)),
        download=lambda w: "--download" if CONFIG["download"] else "",
        changed_to=data_changed_to,
    shell:
        "irpipe data --dataset {params.dataset:q} --split {wildcards.split} {params.download}"
        " --code {params.code_hash} --changed-to={params.changed_to}"
        " --output {output:q} > {log:q} 2>&1"


rule import_released:
    """Turn a released network into a checkpoint."""
    output:
        "results/{dataset}/{model}/{method}/released/network.safetensors",
    log:
        "results/logs/{dataset}/{model}/{method}/released/import.log",
    benchmark:
        "results/benchmarks/{dataset}/{model}/{method}/released/import.tsv"
    localrule: True
    conda:
        "../envs/irpipe.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        dataset=lambda w: entry_argument("datasets", w.dataset),
        file=lambda w: network(w, "released")["released_files"][w.method],
        sha256=lambda w: released_sha256(
            network(w, "released")["released_files"][w.method]
        ),
        model=lambda w: MODEL_OF[w.model],
        model_code=model_code,
        code_hash=lambda w: code_hash.of_import(kind("datasets", w.dataset)),
    shell:
        'irpipe import "$IRPIPE_RELEASED"/{params.file:q} --dataset {params.dataset:q}'
        " --model {params.model:q} --method {wildcards.method}"
        " --code {params.code_hash} --output {output:q} > {log:q} 2>&1"


rule train:
    """Train a network from scratch; a killed job goes on from its saved state."""
    input:
        "results/data/{dataset}.train.json",
    output:
        network="results/{dataset}/{model}/{method}/seed{k}/network.safetensors",
        log="results/{dataset}/{model}/{method}/seed{k}/training_log.csv",
    log:
        "results/logs/{dataset}/{model}/{method}/seed{k}/train.log",
    benchmark:
        "results/benchmarks/{dataset}/{model}/{method}/seed{k}/train.tsv"
    conda:
        "../envs/irpipe.yaml"
    threads: cores_per_job()
    resources:
        gpu=1,
        mem_mb=lambda w, attempt: 8000 * attempt,
        runtime=lambda w, attempt: 240 * attempt,
    params:
        dataset=lambda w: entry_argument("datasets", w.dataset),
        method=lambda w: entry_argument("methods", w.method),
        recipe=lambda w: entry_argument("recipes", network(w, f"seed{w.k}")["recipe"]),
        model=lambda w: MODEL_OF[w.model],
        code_hash=lambda w: code_hash.of_training(
            kind("datasets", w.dataset), kind("methods", w.method), MODEL_OF[w.model]
        ),
        state=state_dir,
    shell:
        "irpipe train --dataset {params.dataset:q} --model {params.model:q}"
        " --method {params.method:q}"
        " --recipe {params.recipe:q} --run {wildcards.k} --state {params.state:q}"
        " --code {params.code_hash} --output {output.network:q} --log {output.log:q}"
        " > {log:q} 2>&1"
