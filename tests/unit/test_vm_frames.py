# SPDX-License-Identifier: GPL-2.0-or-later
"""The protocol between the test harness and its agent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vm.frames import MAX_PAYLOAD, Decoder, Frame, Kind, ProtocolError

frames = st.builds(Frame, st.sampled_from(Kind), st.integers(0, 2**32 - 1), st.binary(max_size=300))


@given(st.lists(frames, max_size=8), st.integers(1, 400))
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(sent: list[Frame], size: int) -> None:
    stream = b"".join(frame.encode() for frame in sent)
    decoder = Decoder()
    got = [frame for at in range(0, len(stream), size) for frame in decoder.feed(stream[at : at + size])]
    assert got == sent


def test_a_frame_cut_short_is_no_frame_yet() -> None:
    decoder = Decoder()
    encoded = Frame(Kind.STDOUT, 1, b"text").encode()
    assert list(decoder.feed(encoded[:-1])) == []
    assert list(decoder.feed(encoded[-1:])) == [Frame(Kind.STDOUT, 1, b"text")]


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(b"\xff" + bytes(8), id="unknown kind"),
        pytest.param(Frame(Kind.STDOUT).encode()[:5] + (MAX_PAYLOAD + 1).to_bytes(4), id="too long"),
    ],
)
def test_other_bytes_are_refused(stream: bytes) -> None:
    with pytest.raises(ProtocolError, match="no frame starts with"):
        list(Decoder().feed(stream))


def test_a_payload_over_the_limit_is_not_sent() -> None:
    assert Frame(Kind.STDIN, 1, bytes(MAX_PAYLOAD)).encode()
    with pytest.raises(ProtocolError, match=str(MAX_PAYLOAD + 1)):
        Frame(Kind.STDIN, 1, bytes(MAX_PAYLOAD + 1)).encode()
