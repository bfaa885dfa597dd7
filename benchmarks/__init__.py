"""Benchmarks: `python -m benchmarks NAME [--quick] [--out FILE]`; one module a benchmark."""
