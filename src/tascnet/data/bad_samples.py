"""Photos and annotation that cannot be used: a command leaves them out and names them, or stops."""

from tascnet.config import OnBadSample
from tascnet.errors import InputError


class LeftOut:
    """The bad samples that a command leaves out: photos or annotation that cannot be used.

    It is called with the error of each, which it keeps; or raises, where bad samples end the command.

    Attributes:
        errors: those kept so far; each names its file.
    """

    def __init__(self, on_bad_sample: OnBadSample = "fail"):
        """Keep the errors ("skip"), or raise the first ("fail")."""
        self.errors: list[InputError] = []
        self._raises = on_bad_sample == "fail"

    def __call__(self, error: InputError) -> None:
        """Keep an error, or raise it."""
        if self._raises:
            raise error
        self.errors.append(error)

    def __len__(self) -> int:
        return len(self.errors)

    def require_others(self, total: int, noun: str, before: int = 0) -> None:
        """Refuse to continue with nothing.

        Args:
            total: samples tried.
            noun: for several of them.
            before: errors that were kept before these samples.

        Raises:
            InputError: all of the samples, at least one, were left out.
        """
        errors = self.errors[before:]
        if total and len(errors) == total:
            raise InputError(f"none of {total} {noun} can be used. The first: {errors[0]}") from errors[0]
