"""Benchmarks: `./dev bench [NAME]`. What they mean is in docs/benchmarks.md."""
