"""The papers' pilot analyses as runnable studies, and their tables checked against our own runs.

One file per study: pure functions first, then `run`, which feeds them from a model. `catalogue.names()` lists them.
"""
