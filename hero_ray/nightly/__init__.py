"""The nightly guard: run a fixed panel, compare it with the last good nights, say what got worse and what changed."""
