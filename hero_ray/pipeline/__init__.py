"""Spread `evaluate` over Ray Data: actors, retries, resume, progress. Nothing scientific happens here."""
