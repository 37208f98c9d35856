"""Data sets, one file a kind: the folder listing is the registry (see `irpipe.data.Dataset`)."""
