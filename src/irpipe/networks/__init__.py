"""Networks: architectures, checkpoints, the authors' released files and external networks."""
