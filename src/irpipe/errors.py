"""The one exception that speaks to a person."""


class IrpipeError(Exception):
    """Bad input, in one line: where it was found, what was found, what would be right.

    The command line prints the line and exits with code 2; anything else is a defect and keeps its traceback.
    """

    def __str__(self) -> str:
        return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in super().__str__())
