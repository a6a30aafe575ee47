"""Native chatter is dropped; errors and other people's lines are not."""

import os

import pytest

from dsgcli.faces.mediapipe_start import is_chatter, native_chatter_dropped

CHATTER = [
    b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.",
    b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    b"W0000 00:00:1795346990.580801    7566 inference_feedback_manager.cc:114] Feedback manager",
    b"I0000 00:00:1795347278.463092    9204 task_runner.cc:85] GPU suport is not available",
]
KEPT = [
    b"E0000 00:00:1795347278.463092    9204 task_runner.cc:85] No such model",
    b"F0000 00:00:1795347278.463092    9204 task_runner.cc:85] Check failed",
    b"Traceback (most recent call last):",
    b"Stylizing 42 %",
    b"WARNING: something else",
    b"",
]


@pytest.mark.parametrize("line", CHATTER)
def test_chatter_is_known(line):
    assert is_chatter(line)


@pytest.mark.parametrize("line", KEPT)
def test_what_is_no_chatter_is_kept(line):
    assert not is_chatter(line)


def test_only_chatter_is_dropped(capfd):
    with native_chatter_dropped():
        for line in [*CHATTER, *KEPT]:
            os.write(2, line + b"\n")
    assert capfd.readouterr().err.encode() == b"".join(line + b"\n" for line in KEPT)


def test_stderr_is_back_after_an_exception(capfd):
    with pytest.raises(ZeroDivisionError), native_chatter_dropped():
        os.write(2, CHATTER[0] + b"\n" + KEPT[0] + b"\n")
        raise ZeroDivisionError
    os.write(2, b"after\n")
    assert capfd.readouterr().err == KEPT[0].decode() + "\nafter\n"


def test_blocks_may_be_nested(capfd):
    with native_chatter_dropped():
        with native_chatter_dropped():
            os.write(2, CHATTER[1] + b"\n" + KEPT[3] + b"\n")
        os.write(2, CHATTER[2] + b"\n")
    assert capfd.readouterr().err == KEPT[3].decode() + "\n"
