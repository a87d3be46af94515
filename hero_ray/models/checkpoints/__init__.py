"""Reading weights: safetensors only, every key accounted for, no remote code."""
