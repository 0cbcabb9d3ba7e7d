"""Crash and load tests at their full size: ``scripts/soak``."""
