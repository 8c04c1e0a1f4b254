"""Signals that ask for an end are counted, and the command can fork before it has threads."""

import signal
import subprocess
import sys

COUNT = """
import signal, sys, time
from beamcast.cli.stop_signals import on_ending_signals
on_ending_signals(lambda count: (sys.stdout.write(f"{count}\\n"), sys.stdout.flush()))
print("ready", flush=True)
time.sleep(60)
"""


def counting() -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", COUNT],
        stdout=subprocess.PIPE,
        text=True,
        # As at a login: whoever runs the tests may ignore a hangup, and that would be left so.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_each_request_is_counted_and_ctrl_backslash_is_for_those_who_can_t_wait() -> None:
    with counting() as process:
        assert process.stdout is not None
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "1\n"
        process.send_signal(signal.SIGHUP)
        assert process.stdout.readline() == "2\n"
        process.send_signal(signal.SIGQUIT)
        assert process.stdout.readline() == "3\n"
        process.kill()


def test_the_command_line_has_neither_epics_nor_parsl_before_it_forks() -> None:
    code = "import sys, threading, beamcast.cli.main\n"
    code += "print({'pvaccess', 'parsl'} & set(sys.modules), threading.active_count())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set() 1\n"
