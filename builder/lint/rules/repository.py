"""What Triton's core refuses in the folders of a repository."""
