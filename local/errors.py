"""The one error of this package: something that the person at the keyboard can fix."""


class LocalError(Exception):
    """One or two complete sentences that name the cause and what to do about it.

    The commands print this message without a traceback. Never raise it for a bug.
    """
