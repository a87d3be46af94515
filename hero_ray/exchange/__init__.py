"""Results to and from other tools' files: lmms-eval (both ways), VLMEvalKit and our own (in).

Pure functions over plain records; nothing here knows the database.
"""
