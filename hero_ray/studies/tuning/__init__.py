"""Search a method's parameters on a validation set, every picture encoded once over all trials.

`space` what may vary, `validation` on what it is judged and what is refused, `bench` one trial, `search` Ray Tune.
"""
