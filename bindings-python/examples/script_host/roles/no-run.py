"""Role no-run: has no entry point."""
