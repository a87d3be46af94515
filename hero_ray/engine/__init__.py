"""Cut one picture, answer many cells; the front door `load_model`."""
