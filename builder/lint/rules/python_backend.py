"""What Triton's Python backend refuses."""
