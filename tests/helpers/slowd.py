#!/usr/bin/env python3
"""A helper of plumberd that takes its time: each dial connects to the UNIX socket named by its first argument and waits
there for one byte, the test's word: `+` makes that connection the dial's result, anything else fails the dial.
"""
import os
import socket
import sys
import threading

from plumbwire import receive, send

sending = threading.Lock()


def say(channel, message, fds=()):
    with sending:
        send(channel, {"jsonrpc": "2.0", **message}, fds)


def dial(channel, ident):
    place = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    place.connect(sys.argv[1])
    if place.recv(1) == b"+":
        say(channel, {"id": ident, "result": {"fd": 0, "path": "direct", "labels": {}}}, [place.fileno()])
    else:
        failure = {"code": -32000, "message": "was told to fail", "data": {"code": "UNREACHABLE"}}
        say(channel, {"id": ident, "error": failure})
    place.close()


def main():
    channel = socket.socket(fileno=int(os.environ["PLUMBERD_HELPER_FD"]))
    say(channel, {"method": "hello", "params": {"protocol": 1, "schemes": ["slow"]}})
    while True:
        message, descriptors = receive(channel)
        descriptors.close()
        if message is None:
            return
        if message.get("method") == "dial":
            threading.Thread(target=dial, args=(channel, message["id"]), daemon=True).start()


main()
