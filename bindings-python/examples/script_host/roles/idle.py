"""The role idle: nothing is ever called."""


def main() -> None:
    """There to be found."""
