"""Features of any amount of speech: as much as memory is meant for, and the rest in a file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from typing import IO, overload

import numpy as np
import torch
from torch import Tensor

#: Bytes of features that stay in memory, some six hours of 128 mel bins.
KEEP = 1 << 30


class Features(Sequence[Tensor]):
    """Spectrograms `(frame, mel)`, float32, in the order in which they were appended.

    What goes beyond `keep` bytes lies in a temporary file without a name, which ends with the object, and is read again
    when it is asked for.

    Raises:
        OSError: the folder for temporary files is full (`TMPDIR` names another).
    """

    def __init__(self, keep: int = KEEP) -> None:
        self._keep = keep
        self._shapes: list[tuple[int, int]] = []
        # In memory, or where it begins in the file.
        self._places: list[Tensor | int] = []
        self._file: IO[bytes] | None = None

    def append(self, frames: Tensor) -> None:
        """Add those of one utterance."""
        frames = frames.to(torch.float32).contiguous()
        self._keep -= frames.nbytes
        place: Tensor | int = frames
        if self._keep < 0:
            # Closed when this object goes.
            self._file = self._file or tempfile.TemporaryFile()  # noqa: SIM115
            place = self._file.tell()
            self._file.write(frames.numpy().data)
            self._file.flush()
        self._places.append(place)
        self._shapes.append((frames.shape[0], frames.shape[1]))

    @property
    def lengths(self) -> list[int]:
        """Number of frames of each, without reading them."""
        return [frames for frames, _ in self._shapes]

    def __len__(self) -> int:
        return len(self._shapes)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tensor]: ...
    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        place, (frames, mels) = self._places[index], self._shapes[index]
        if isinstance(place, Tensor):
            return place
        if self._file is None:
            raise ValueError("the file of these features is closed")
        read = os.pread(self._file.fileno(), 4 * frames * mels, place)
        return torch.from_numpy(np.frombuffer(bytearray(read), np.float32).reshape(frames, mels))


class Chosen(Sequence[Tensor]):
    """Some of the features, of these indices, and not a copy."""

    def __init__(self, features: Sequence[Tensor], indices: Sequence[int]) -> None:
        self._features, self._indices = features, list(indices)

    @property
    def lengths(self) -> list[int]:
        """Number of frames of each."""
        lengths = frames_of(self._features)
        return [lengths[index] for index in self._indices]

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tensor]: ...
    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor]:
        if isinstance(index, slice):
            return [self._features[each] for each in self._indices[index]]
        return self._features[self._indices[index]]


def frames_of(features: Sequence[Tensor]) -> list[int]:
    """Number of frames of each spectrogram; none is read from a file for it."""
    return features.lengths if isinstance(features, Features | Chosen) else list(map(len, features))
