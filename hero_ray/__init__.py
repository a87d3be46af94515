"""hero_ray: how many visual tokens can a vision-language model lose, with which method, and at what cost?"""

__version__ = "0.1.0"
