"""The HTTP service on Ray Serve: pruned models in OpenAI's form, explanations, sweeps and results."""
