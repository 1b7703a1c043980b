"""What ends a command and is no fault of the program: reported as a sentence, never as a traceback."""


class InputError(ValueError):
    """What the user gave (a file, a folder, a setting) cannot be used.

    The message is one sentence or two: the file or setting, what was found, what was wanted, what to do.
    The command line prints it and exits with code 2; in Python it is a `ValueError`.
    """


class Interrupted(KeyboardInterrupt):
    """A long job that was asked to stop has stopped in good order; the message says how to go on with it."""
