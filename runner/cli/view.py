"""The output of a command that only reads."""

from attrs import frozen


@frozen
class View:
    """An output in both forms: data for ``--json``, and text."""

    data: object
    text: str
