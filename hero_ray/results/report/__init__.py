"""Results for reading: tables, plots and one self-contained file with their provenance."""
