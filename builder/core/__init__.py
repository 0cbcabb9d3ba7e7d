"""A build system that knows nothing about models."""
