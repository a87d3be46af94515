"""`python -m hero_ray` is the `hero-ray` command."""

from hero_ray.cli import main

main()
