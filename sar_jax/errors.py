"""The one exception that users see as a single line, without a traceback."""


class UserError(Exception):
    """Something that the user can put right; the message names what is wrong and the remedy."""
