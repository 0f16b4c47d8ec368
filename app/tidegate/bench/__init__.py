"""Benchmarks: a user's load on the shipped code, beside a floor that is measured in the same run."""
