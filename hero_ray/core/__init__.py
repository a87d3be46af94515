"""The words every room shares: types, errors, the encoded picture, sweep files and the plan."""
