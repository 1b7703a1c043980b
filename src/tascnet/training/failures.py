"""What ends a training from outside -> one sentence: no memory, a dead worker, a dead process."""

import errno
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import distributed

from tascnet.errors import InputError, Interrupted, is_no_memory
from tascnet.files import UnwritableError

_PEER_GONE = ("gloo", "Connection closed by peer", "Connection reset by peer", "Broken pipe", "NCCL", "TCPStore")


class ProcessLostError(InputError):
    """Another process of the same training has ended; what ended it is the interesting error."""


@contextmanager
def explained(
    batch: Callable[[], str], processes: int, go_on: Callable[[], str], asked: Callable[[], bool] = lambda: False
) -> Iterator[None]:
    """Within the block, errors of the machine become an `InputError`; errors of this program stay as they are.

    Args:
        batch: says how large the batch was.
        processes: that train together.
        go_on: says how to go on.
        asked: whether this process was asked to stop.

    Raises:
        InputError: memory ran out, the disk is full, a process that loads data died or gives no batch, or another
            process of the training died.
        Interrupted: such a process died, because all of them were asked to stop and it had not yet learnt to wait.
    """
    try:
        yield
    except UnwritableError as error:
        raise InputError(f"{error} {go_on()}") from error
    except InputError:
        raise
    except (RuntimeError, MemoryError, OSError) as error:
        explanation = _explanation(error, batch(), processes, go_on())
        if explanation is None:
            raise
        if asked() and not is_no_memory(error):
            raise Interrupted(f"a process ended before the step was finished, which is not saved. {go_on()}") from error
        raise explanation from error


def _explanation(error: BaseException, batch: str, processes: int, go_on: str) -> InputError | None:
    text = str(error)
    if is_no_memory(error):
        return InputError(
            f"memory ran out at a batch of {batch}. Lower data.batch_size (training.accumulate makes up for it), "
            f"data.input.crop or data.input.short_side, or set training.precision to bf16-mixed on a GPU. {go_on}"
        )
    if isinstance(error, OSError):
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return None
        return InputError(
            f"no space is left ({error}): on the disk, or in shared memory (/dev/shm), which data.workers need. Free "
            f"some, or set data.workers to 0. {go_on}"
        )
    if found := re.search(r"DataLoader timed out after ([\d.]+) seconds", text):
        return InputError(
            f"no batch has come for {float(found.group(1)):g} seconds, the time limit: the processes that load data "
            "hang, on a drive that does not answer or for want of shared memory (/dev/shm). Check that the images can "
            f"be read, or set data.workers to 0, which has no limit. {go_on}"
        )
    if "Bus error" in text and "DataLoader worker" in text:
        return InputError(
            "a process that loads data was ended by a bus error: shared memory (/dev/shm) is full. Give it more "
            "(docker run --shm-size 8g, or --ipc=host), or lower data.workers; with data.workers 0, none is used. "
            f"{go_on}"
        )
    if found := re.search(r"DataLoader worker \(pid\(?s?\)? ?([\d, ]+)\)(.*)", text):
        how = found.group(2).strip(" .") or "ended"
        return InputError(
            f"a process that loads data (pid {found.group(1).strip()}) {how}. If that was not you, memory ran out: "
            f"lower data.workers or data.batch_size. {go_on}"
        )
    if processes > 1 and (isinstance(error, distributed.DistError) or any(words in text for words in _PEER_GONE)):
        return ProcessLostError(f"another process of this training has ended ({text.splitlines()[0][:200]}). {go_on}")
    return None
