"""PolicyError: a rule that cannot be used. Says where (file, line, key) and what was expected."""


class PolicyError(ValueError):
    """A mistake in the configuration; the message reads `file:line: key: what was expected`."""

    def __init__(self, message: str, *, file: str = "", line: int = 0, key: str = "") -> None:
        where = ":".join(str(part) for part in (file, line) if part)
        super().__init__(": ".join(part for part in (where, key, message) if part))
        self.file, self.line, self.key = file, line, key
