"""What Triton's core refuses in a config."""
