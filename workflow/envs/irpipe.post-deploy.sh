#!/usr/bin/env bash
# Snakemake copies environment files elsewhere, so a path relative to them would be wrong: the workflow names its folder.
set -euo pipefail
pip install --constraint "$IRPIPE_SOURCE/constraints.txt" --editable "$IRPIPE_SOURCE"
