"""Data sets for tests with worker processes; a module, since a process finds the class of what it is sent by name."""

import ctypes
import os
import random
import signal
import sys
import time

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ganblocks.errors import DataError, ImageDecodeError


class Drawn(Dataset[tuple[Tensor, int]]):
    """Item i: i and one number of each global generator, uniform and normal; its label is i."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        drawn = [random.random(), random.gauss(0, 1), np.random.random(), np.random.standard_normal()]
        drawn += [torch.rand((), dtype=torch.float64).item(), torch.randn((), dtype=torch.float64).item()]
        return torch.tensor([index, *drawn], dtype=torch.float64), index


class Process(Dataset[Tensor]):
    """Each item tells of the process that loads it: id, parent's id, torch threads, SIGINT ignored, SIGTERM ignored."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> Tensor:
        ignored = [signal.getsignal(number) is signal.SIG_IGN for number in (signal.SIGINT, signal.SIGTERM)]
        return torch.tensor([os.getpid(), os.getppid(), torch.get_num_threads(), *ignored])


class TwoArgumentsError(Exception):
    """Cannot be rebuilt from its message, so pickling it fails at the far end."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


class PathError(DataError):
    """Cannot be rebuilt either, and is one of the library's kind."""

    def __init__(self, *, path: str) -> None:
        super().__init__(f"{path} is odd")


class Faulty(Dataset[Tensor]):
    """Item i is i, unless ``faults`` says what happens there."""

    def __init__(self, size: int, faults: dict[int, str]) -> None:
        self.size = size
        self.faults = faults

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Tensor:
        match self.faults.get(index):
            case "value error":
                raise ValueError("bad pixel")
            case "own error":
                raise ImageDecodeError("broken.png is no image")
            case "two arguments":
                raise TwoArgumentsError("one", "two")
            case "path error":
                raise PathError(path="a.png")
            case "other shape":
                return torch.zeros(2)
            case "no tensor":
                return "text"  # type: ignore[return-value]
            case "SIGKILL":
                os.kill(os.getpid(), signal.SIGKILL)
            case "segmentation fault":
                ctypes.string_at(0)
            case "memory":
                raise MemoryError
            case "giant":
                return torch.zeros(1).expand(2**46)  # takes no memory, but its copy does
            case "exit":
                sys.exit(3)
            case "slow":
                time.sleep(1.3)
            case "hang":
                time.sleep(1000)
        return torch.tensor(float(index))


class Unimportable(Faulty):
    """Fails to arrive in a new process, as one does whose class cannot be imported there."""

    def __init__(self) -> None:
        super().__init__(4, {})

    def __setstate__(self, state: object) -> None:
        raise SystemExit(1)
