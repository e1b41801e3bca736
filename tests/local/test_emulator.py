"""Starting and stopping an emulator, on the process table as it really is."""

import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import time
import zipfile

import psutil
import pytest

from local import Emulator, LocalError

HANDLER = "import time\ndef handler(event, context):\n    time.sleep(60)\n"


def of(emulator):
    """The emulator's processes, found without the code under test: by process group."""
    group, found = emulator.pid, []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(process.pid) == group:
                found.append(process.pid)
    return found


def alive(pids):
    """Those that are not gone in a second: one that was killed takes a moment to go."""
    deadline = time.monotonic() + 1
    while True:
        left = [pid for pid in pids if psutil.pid_exists(pid) and _status(pid) != "zombie"]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.02)


def _status(pid):
    try:
        return psutil.Process(pid).status()
    except psutil.NoSuchProcess:
        return "zombie"


def busy_worker(emulator):
    """Leaves one Lambda function running in a worker process."""
    client = emulator.client("lambda")
    role = "arn:aws:iam::000000000000:role/any"
    client.create_function(
        FunctionName="busy",
        Runtime="python3.13",
        Handler="index.handler",
        Role=role,
        Timeout=90,
        Code={"ZipFile": zipped()},
    )
    client.invoke(FunctionName="busy", InvocationType="Event")
    deadline = time.monotonic() + 10
    while len(of(emulator)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def zipped():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("index.py", HANDLER)
    return buffer.getvalue()


def test_it_listens_on_the_loopback_alone_and_starting_twice_changes_nothing(emulator):
    assert emulator.start()
    pid = emulator.pid
    assert not emulator.start()
    assert emulator.pid == pid
    sockets = psutil.Process(pid).net_connections()
    listening = [it.laddr for it in sockets if it.status == psutil.CONN_LISTEN]
    assert listening == [("127.0.0.1", emulator.port)]


def test_another_handle_of_the_directory_finds_its_port_and_refuses_a_second_one(emulator):
    emulator.start()
    assert Emulator(directory=emulator.directory).port == emulator.port
    assert Emulator(directory=emulator.directory, port=0).port != emulator.port
    with pytest.raises(LocalError, match=f"already runs on port {emulator.port}, not 1"):
        Emulator(directory=emulator.directory, port=1).start()


def test_stopping_leaves_no_process_not_even_a_busy_worker_and_frees_the_port(emulator):
    emulator.start()
    busy_worker(emulator)
    pids = of(emulator)
    assert emulator.stop()
    assert alive(pids) == []
    assert not emulator.running
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", emulator.port)) != 0
    assert not (emulator.directory / "tmp").exists()


def test_stopping_what_does_not_run_is_harmless(emulator):
    assert not emulator.stop()
    emulator.start()
    assert emulator.stop()
    assert not emulator.stop()


def test_workers_of_a_killed_emulator_are_ended_by_the_next_stop_or_start(emulator):
    emulator.start()
    busy_worker(emulator)
    pids = of(emulator)
    os.kill(emulator.pid, signal.SIGKILL)
    while emulator.running:
        time.sleep(0.02)
    assert emulator.start()
    assert alive(pids) == []


def test_a_second_emulator_is_left_alone(emulator, tmp_path):
    emulator.start()
    other = Emulator(directory=tmp_path / "other", port=emulator.port)
    assert not other.running
    assert not other.stop()
    assert emulator.running


def test_a_taken_port_is_named_with_its_holder_and_a_way_out(emulator):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", emulator.port))
        taken.listen()
        with pytest.raises(LocalError) as error:
            emulator.start()
    text = str(error.value)
    assert text.startswith(f"Port {emulator.port} is taken by process {os.getpid()}: ")
    assert "PORT=" in text
    assert "\n" not in text


def test_a_start_that_fails_says_why_and_leaves_nothing(tmp_path):
    (tmp_path / "nothing").mkdir()
    emulator = Emulator(
        directory=tmp_path / "emulator", port=0, environment={"BIND_HOST": "203.0.113.1"}
    )
    with pytest.raises(LocalError, match=r"ended at its start: .+\nIts log: .+emulator\.log"):
        emulator.start()
    assert not emulator.running


def test_it_outlives_the_program_that_started_it(emulator):
    program = (
        "import sys, pathlib; from local import Emulator; "
        "Emulator(directory=pathlib.Path(sys.argv[1]), port=int(sys.argv[2])).start()"
    )
    arguments = [str(emulator.directory), str(emulator.port)]
    subprocess.run([sys.executable, "-c", program, *arguments], check=True)
    assert emulator.running
    assert emulator.stop()
