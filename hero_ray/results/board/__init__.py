"""An open board: a folder of records that anyone may add to, rendered as a site without a server."""
