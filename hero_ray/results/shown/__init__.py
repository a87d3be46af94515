"""Stored results as the points and tables that pages draw."""
