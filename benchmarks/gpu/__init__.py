"""``scripts/gpu_bench``: the study's matrix on a GPU host without network.

It imports numpy, torch, what it unpacks there, and of ``builder`` what needs the standard library alone.
"""
