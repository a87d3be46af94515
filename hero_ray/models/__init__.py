"""Model families taken apart: encode, splice the kept tokens, generate."""
