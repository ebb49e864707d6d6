"""Text of unknown origin as every database takes it."""


def storable(text: str) -> str:
    """`text` with NUL, which PostgreSQL refuses, and halves of surrogate pairs, which both refuse, written as escapes."""
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()
