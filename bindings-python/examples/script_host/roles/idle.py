"""Role idle: never called."""


def main() -> None:
    """Does nothing."""
