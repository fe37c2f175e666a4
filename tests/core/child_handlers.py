"""What the children of test_isolate.py answer."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time

import numpy as np

REMEMBERED = {}


def echo(content, arrays):
    return content, arrays


def fail(content, _):
    raise ValueError(content)


def crash(content, _):
    print(content)
    os.kill(os.getpid(), signal.SIGSEGV)


def hang(_content, _arrays):
    while True:
        time.sleep(1)


def allocate(content, _):
    return np.ones(content, np.uint8).nbytes, {}


def write(content, _):
    with open(content, "w") as file:
        file.write("x")
    return None, {}


def start(content, _):
    return subprocess.call([content]), {}


def connect(content, _):
    socket.create_connection(("127.0.0.1", content), 1).close()
    return None, {}


def say(content, _):
    print(content)
    return None, {}


def who(_content, _arrays):
    return os.getpid(), {}


def where(_content, _arrays):
    return os.getcwd(), {}


def remember(content, _):
    REMEMBERED["it"] = content
    return None, {}


def remembered(_content, _arrays):
    return REMEMBERED.get("it"), {}


HANDLERS = {
    one.__name__: one
    for one in (echo, fail, crash, hang, allocate, write, start, connect, say, who, where, remember, remembered)
}
