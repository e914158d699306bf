"""The output of a command that only reads."""

from attrs import frozen

from runner.exit_codes import ExitCode
from runner.terminal.options import print_output


@frozen
class View:
    """An output in both forms: data for ``--json``, and text."""

    data: object
    text: str

    def show(self, *, as_json: bool) -> int:
        """Print it; return the exit code of a command that only reads."""
        print_output(self.data, self.text, as_json=as_json)
        return ExitCode.OK
