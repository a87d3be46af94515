"""What `hero-ray dashboard` runs: `dashboard.app` from a folder without `pages/` beside it.

Streamlit takes a `pages/` folder next to the script it runs for the whole app until the script has run once, so the
first visitor of a shared link would get bare pages without their navigation.
"""

from dashboard.app import main

main()
