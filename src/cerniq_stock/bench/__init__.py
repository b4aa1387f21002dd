"""Measurements that anyone can repeat: `cerniq-stock bench`. What they mean: docs/benchmarks.md."""
