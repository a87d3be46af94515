"""`python -m hero_ray.sweep [CONFIG] [options]` is `hero-ray sweep`."""

from __future__ import annotations

import sys

from hero_ray.cli import main

if __name__ == "__main__":
    main(["sweep", *sys.argv[1:]])
