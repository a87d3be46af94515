"""What methods share: scores, budgets, merging, dropping; and the conformance kit."""
