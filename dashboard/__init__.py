"""The team dashboard: a Streamlit app (`app.py`, `pages/`) over plain functions that need no Streamlit.

Reads results through `hero_ray.store`, never torch or Ray; started by `hero-ray dashboard`.
"""
