"""Generated from the schema by `tools/generate.py`; nothing here is written by hand."""
