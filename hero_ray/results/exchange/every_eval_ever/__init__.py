"""Every Eval Ever, schema 0.3.0: runs to its aggregate and instance files, and back.

The two schema files are evaleval/every_eval_ever's, commit 805ef1eb4, under the MIT licence that stands beside them.
"""
