"""FLOPs and bytes from sizes alone."""
