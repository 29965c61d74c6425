"""Features beyond what memory is meant for come back as they were."""

from __future__ import annotations

import pytest
import torch

from otoscope.study.features import Chosen, Features, frames_of


@pytest.mark.parametrize("keep", [0, 1000, 1 << 20])
def test_what_goes_in_comes_out(keep):
    given = [torch.randn(length, 7) for length in (3, 50, 1, 20, 0, 9)]
    features = Features(keep)
    for number, frames in enumerate(given):
        features.append(frames)
        # Also read between two writes.
        torch.testing.assert_close(features[number // 2], given[number // 2], rtol=0, atol=0)
    assert len(features) == 6
    assert frames_of(features) == features.lengths == [3, 50, 1, 20, 0, 9]
    for found, right in zip(features, given, strict=True):
        torch.testing.assert_close(found, right, rtol=0, atol=0)
    assert features[-1].shape == (9, 7)
    assert [len(each) for each in features[1:3]] == [50, 1]
    with pytest.raises(IndexError):
        features[6]
    some = Chosen(features, [3, 1])
    assert (len(some), some.lengths, frames_of(list(some))) == (2, [20, 50], [20, 50])
    torch.testing.assert_close(some[0], given[3], rtol=0, atol=0)


def test_only_so_much_stays_in_memory():
    features = Features(keep=4 * 7 * 53)
    frames = [torch.randn(length, 7) for length in (3, 50, 1, 20)]
    for each in frames:
        features.append(each)
    kept = [features[index].data_ptr() == each.data_ptr() for index, each in enumerate(frames)]
    assert kept == [True, True, False, False]
