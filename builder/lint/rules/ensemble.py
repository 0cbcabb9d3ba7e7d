"""What Triton's ensemble scheduler refuses."""
