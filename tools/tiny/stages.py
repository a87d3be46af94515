"""The stages of training, in order; a model goes through those its recipe names."""

STAGES = ("tower", "sharpen", "tiles", "reading", "anyres", "polish")
