"""The answer of a command that only reads."""

from attrs import frozen


@frozen
class View:
    """An answer: data for machines, text for people."""

    data: object
    text: str
