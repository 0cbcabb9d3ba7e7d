"""Hugging Face model → ONNX model, tokenizer and expected answers.

Stages, in order: source (the files) → tokenizer → trace (graph without weights) → bind (weights by reference);
reference (what the Hugging Face model answers); check (the bound model against the reference, at untraced shapes).
"""
