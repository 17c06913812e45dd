"""The role no-run: there is nothing to run."""
