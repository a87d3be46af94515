"""The embedded models: small, true to their architectures, and trained by this package on scenes it draws itself."""
