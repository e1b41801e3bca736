"""The one error of this package: something the person at the keyboard can mend.

Its message is what the command prints, so it names cause and way out. A bug is never one of these.
"""


class LocalError(Exception):
    """A complete sentence or two for the terminal; no traceback is shown with it."""
