#!/usr/bin/env python3
"""A client of the native door, written from docs/protocol.md, sections 2, 3 and 7.

    doorclient.py connect SERVICE|URI [--networkd V] [--label NAME=VALUE] [--decision] [TEXT]   says TEXT, prints the answer
    doorclient.py serve SERVICE [--shared] [--count N]                                          echoes what N callers say
    doorclient.py list|status|rules|metrics|ping
    doorclient.py explain SERVICE|URI [--networkd V] [--as SELECTORS] [--from SCHEME:HOST]
    doorclient.py events [--since ID] [--count N]

Prints JSON, a value a line. Exit status 1 and the error on standard error when the router refuses.
"""
import argparse
import base64
import json
import os
import pwd
import socket
import struct
import sys

from plumbwire import Failure, receive, send


def run_directories():
    if chosen := os.environ.get("IPC_RUNDIR"):
        return [chosen]
    user = os.environ.get("XDG_RUNTIME_DIR")
    return ([user + "/ipc"] if user else []) + ["/run/ipc"]


def is_trusted(door):
    """The other end is root, the user plumberd, or we."""
    _, uid, _ = struct.unpack("iII", door.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    try:
        router = pwd.getpwnam("plumberd").pw_uid
    except KeyError:
        router = 0
    return uid in (0, router, os.geteuid())


class Door:
    def __init__(self, directories=None):
        for directory in directories or run_directories():
            self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                self._sock.connect(directory + "/plumberd")
            except OSError:
                self._sock.close()
                continue
            if not is_trusted(self._sock):
                raise Failure("NO_ROUTER", f"{directory}/plumberd belongs to a stranger")
            self._last_id, self._kept = 0, []
            return
        raise Failure("NO_ROUTER", "no router answers")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._sock.close()

    def call(self, method, params):
        """(result, Descriptors). Notifications that come in between are kept for `notification`."""
        self._last_id += 1
        send(self._sock, {"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": params})
        while True:
            message, descriptors = self._next()
            if "method" in message:
                self._kept.append((message, descriptors))
            elif message.get("id") != self._last_id:
                descriptors.close()
            elif "error" in message:
                raise Failure.from_json(message["error"])
            else:
                return message["result"], descriptors

    def notification(self):
        """(method, params, Descriptors)"""
        message, descriptors = self._kept.pop(0) if self._kept else self._next()
        return message["method"], message["params"], descriptors

    def _next(self):
        message, descriptors = receive(self._sock)
        if message is None:
            raise Failure("NO_ROUTER", "the router ended the connection")
        return message, descriptors

    # --- what one does with it
    def connect(self, target, networkd=None, labels=None, decision=False):
        """(socket, result)"""
        params = {"uri" if "://" in target else "service": target}
        params |= {"networkd": networkd} if networkd is not None else {}
        params |= {"labels": labels} if labels else {}
        params |= {"decision": True} if decision else {}
        result, descriptors = self.call("connect", params)
        return descriptors.take(result["fd"]), result

    def serve(self, service, shared=False):
        """Yields (socket, labels, [datagrams that came before the socket])."""
        self.call("serve", {"service": service, "shared": shared})
        yield None  # the name is ours from here on
        while True:
            method, params, descriptors = self.notification()
            if method == "accepted" and params["service"] == service:
                first = [base64.b64decode(datagram) for datagram in params.get("first", [])]
                yield descriptors.take(params["fd"]), params["labels"], first
            descriptors.close()

    def events(self, **params):
        """The decisions of the history, oldest first."""
        self.call("events", params | {"follow": False})
        while self._kept:
            yield self.notification()[1]["decision"]


def show(value):
    print(json.dumps(value, sort_keys=True), flush=True)


def talk(sock, text):
    """Says `text`, ends, and returns all that comes back."""
    with sock:
        sock.sendall(text.encode())
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        while more := sock.recv(65536):
            answer += more
        return answer.decode(errors="backslashreplace")


def connect(door, options):
    labels = dict(label.split("=", 1) for label in options.label)
    sock, result = door.connect(options.name, options.networkd, labels, options.decision)
    result.pop("fd")
    show(result | {"blocking": os.get_blocking(sock.fileno()), "family": sock.family.name})
    if options.text is not None:
        show(talk(sock, options.text))


def serve(door, options):
    callers = door.serve(options.name, options.shared)
    next(callers)
    show("serving")
    for _ in range(options.count or 1):
        sock, labels, first = next(callers)
        show({"labels": labels, "first": [datagram.decode() for datagram in first]})
        with sock:
            while more := sock.recv(65536):
                sock.sendall(more)


def explain(door, options):
    params = {"uri" if "://" in options.name else "service": options.name}
    params |= {"networkd": options.networkd} if options.networkd is not None else {}
    params |= {"as": options.as_} if options.as_ else {}
    params |= {"direction": "in", "from": options.from_} if options.from_ else {}
    show(door.call("explain", params)[0])


def events(door, options):
    wanted = {"since": options.since, "count": options.count}
    for decision in door.events(**{name: value for name, value in wanted.items() if value is not None}):
        show(decision)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["connect", "serve", "list", "status", "rules", "metrics", "ping", "explain", "events"])
    parser.add_argument("name", nargs="?")
    parser.add_argument("text", nargs="?")
    parser.add_argument("--networkd", default=os.environ.get("IPC_NETWORKD", os.environ.get("IPC_NETWORK")))
    parser.add_argument("--label", action="append", default=[])
    parser.add_argument("--decision", action="store_true")
    parser.add_argument("--shared", action="store_true")
    parser.add_argument("--count", type=int)
    parser.add_argument("--since", type=int)
    parser.add_argument("--as", dest="as_")
    parser.add_argument("--from", dest="from_")
    options = parser.parse_intermixed_args()
    try:
        with Door() as door:
            does = {"connect": connect, "serve": serve, "explain": explain, "events": events}.get(options.what)
            if does:
                does(door, options)
            else:
                show(door.call(options.what, {})[0])
    except Failure as failure:
        print(json.dumps(failure.to_json(), sort_keys=True), file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
