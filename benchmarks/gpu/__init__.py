"""``scripts/gpu_bench``: the study's matrix on a GPU host without network. Only numpy, torch and what it unpacks there."""
