"""Benchmarks, one file each: dataset rows to Samples, predictions to scores."""
