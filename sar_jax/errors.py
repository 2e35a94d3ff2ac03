"""The one exception that users see as a single line, without a traceback."""


class UserError(Exception):
    """Something the user can mend. The message names the thing that is wrong and the remedy."""
