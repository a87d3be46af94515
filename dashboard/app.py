"""The dashboard's pages and their navigation; `hero-ray dashboard` runs it through `entry/app.py`."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

HERE = Path(__file__).parent
PAGES = {
    "Results": {
        "frontier": "Frontier",
        "advise": "Advise",
        "compare": "Compare",
        "two_runs": "Two runs",
        "flips": "Flips",
        "search": "Search",
        "methods": "Methods",
        "efficiency": "Efficiency",
        "load": "Load",
    },
    "Operation": {"runs": "Runs", "nightly": "Nightly"},
    "Insight": {"studies": "Studies", "try_it": "Try it"},
}

CSS = """
.stMainBlockContainer{padding-top:3rem;padding-bottom:3rem}
.stMainBlockContainer h2{font-size:1.5rem}
[data-testid=stCaptionContainer] *{color:inherit}
[data-testid=stCaptionContainer]{color:inherit;opacity:.8}
[data-testid=stSidebar] [data-tag]{height:auto!important;white-space:normal!important}
[data-testid=stSidebar] [data-tag]>span{white-space:normal!important;overflow-wrap:anywhere}
button[aria-checked=true],button[aria-checked=true] *{color:inherit!important}
.first-look{position:relative;height:0;z-index:1;pointer-events:none}
.first-look img{position:absolute;top:0;left:0;width:100%;height:500px;object-fit:contain;object-position:left top}
[class*=st-key-look]:has(.js-plotly-plot .scatterlayer .point) .first-look{display:none}
"""
"""Streamlit's grey captions have 3.9:1 on white; the theme's colour as text on its own tint has 3.3:1 in the
dark; a chip of the narrow sidebar is cut before it tells one run from another. Of `first_look` nothing moves when
the chart comes, and nobody but the eye meets the picture: the chart has the words."""


def main() -> None:
    """Build the navigation; pages are files so that each runs, and is tested, by itself."""
    tree = {
        group: [
            st.Page(
                HERE / "pages" / f"{name}.py",
                title=title,
                url_path="" if name == "frontier" else name,
                default=name == "frontier",
            )
            for name, title in pages.items()
        ]
        for group, pages in PAGES.items()
    }
    page = st.navigation(tree, expanded=True)
    st.set_page_config(page_title=f"{page.title} · hero_ray", page_icon=str(HERE / "icon.png"), layout="wide")
    st.html(f"<style>{CSS}</style>")
    page.run()


if __name__ == "__main__":
    main()
