#!/usr/bin/env python3
"""A helper of plumberd that lies: what a client asks for as lie://WHAT/ is how its dial is answered.

Each of these must give the client a clear error, cost other clients nothing, and leave nothing behind in the router.
"""
import json
import os
import signal
import socket
import struct
import sys
import tempfile

from plumbwire import Failure, receive, send

HONEST = {"fd": 0, "path": "direct", "labels": {"scheme": "lie"}}


def connected_pair():
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)


class Liar:
    def __init__(self, sock):
        self.sock, self.hello = sock, {"protocol": 1, "schemes": ["lie"]}

    def run(self):
        self.notify("hello", self.hello)
        while True:
            message, descriptors = receive(self.sock)
            descriptors.close()
            if message is None:
                return
            if message.get("method") == "dial":
                host = message["params"]["uri"].split("/")[2]
                getattr(self, host.replace("-", "_"))(message["id"], message["params"])

    def notify(self, method, params, fds=()):
        send(self.sock, {"jsonrpc": "2.0", "method": method, "params": params}, fds)

    def answer(self, ident, result, fds=()):
        send(self.sock, {"jsonrpc": "2.0", "id": ident, "result": result}, fds)

    def answer_with(self, ident, result, *sockets):
        self.answer(ident, result, [sock.fileno() for sock in sockets])
        for sock in sockets:
            sock.close()

    # --- the truth, for comparison
    def nothing(self, ident, _):
        ours, theirs = connected_pair()
        ours.sendall(b"honest\n")
        self.answer_with(ident, HONEST, theirs)
        ours.close()

    def careless(self, ident, _):
        """The truth, on a socket with the helper's own timeouts left on."""
        ours, theirs = connected_pair()
        for option in socket.SO_RCVTIMEO, socket.SO_SNDTIMEO:
            theirs.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", 3, 0))
        ours.sendall(b"honest\n")
        self.answer_with(ident, HONEST, theirs)
        ours.close()

    # --- about the message
    def wrong_id(self, ident, _):
        self.answer_with(ident + 1000, HONEST, *connected_pair())

    def same_twice(self, ident, params):
        self.nothing(ident, params)
        self.nothing(ident, params)

    def garbage(self, _, __):
        self.sock.send(b"\xff\x00{[[")
        self.sock.send(b"[]")
        self.sock.send(b'{"jsonrpc":"2.0","id":1,"id":2,"result":{}}')

    def no_object(self, ident, _):
        self.answer(ident, 5)

    def error_without_data(self, ident, _):
        send(self.sock, {"jsonrpc": "2.0", "id": ident, "error": {"code": 7, "message": "a word\nof\x1b[31m mine"}})

    def unknown_word(self, ident, _):
        failure = Failure("MAYBE", "who knows")
        send(self.sock, {"jsonrpc": "2.0", "id": ident, "error": failure.to_json()})

    def too_long(self, _, __):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.sock.send(b"[" * 70_000)

    def too_many(self, ident, _):
        pairs = [sock for _ in range(20) for sock in connected_pair()]
        self.answer_with(ident, HONEST, *pairs)

    def path(self, ident, _):
        self.answer_with(ident, HONEST | {"path": "direct\nallow out everything"}, *connected_pair())

    def unasked_path(self, ident, _):
        self.answer_with(ident, HONEST | {"path": "ktls"}, *connected_pair())

    # --- about the descriptor
    def no_fd(self, ident, _):
        self.answer(ident, HONEST)

    def no_fd_named(self, ident, _):
        self.answer_with(ident, {"path": "direct"}, *connected_pair())

    def another_fd(self, ident, _):
        self.answer_with(ident, HONEST | {"fd": 7}, *connected_pair())

    def negative_fd(self, ident, _):
        self.answer_with(ident, HONEST | {"fd": -1}, *connected_pair())

    def file(self, ident, _):
        with tempfile.TemporaryFile() as file:
            self.answer(ident, HONEST, [file.fileno()])

    def pipe(self, ident, _):
        ends = os.pipe()
        self.answer(ident, HONEST, ends)
        for end in ends:
            os.close(end)

    def listening(self, ident, _):
        self.answer_with(ident, HONEST, socket.create_server(("127.0.0.1", 0)))

    def unconnected(self, ident, _):
        self.answer_with(ident, HONEST, socket.socket())

    def netlink(self, ident, _):
        self.answer_with(ident, HONEST, socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))

    def reset(self, ident, _):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ours = socket.create_connection(listener.getsockname())
            theirs, _ = listener.accept()
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            theirs.close()
            try:
                ours.recv(1)
            except ConnectionError:
                pass
            self.answer_with(ident, HONEST, ours)

    # --- about time
    def silence(self, _, __):
        pass

    def death(self, _, __):
        os._exit(3)

    def deaf(self, _, __):
        """Closes the channel and lives on for a while."""
        self.sock.close()
        signal.alarm(10)
        signal.pause()

    def flood(self, ident, params):
        for number in range(5_000):
            self.notify("log", {"level": "info", "message": f"line {number}"})
            self.notify("no-such-thing", {})
            self.answer(10_000_000 + number, {})
        self.nothing(ident, params)

    # --- about what is not its own
    def ask(self, method, params):
        """The word of the error, or "allowed"."""
        send(self.sock, {"jsonrpc": "2.0", "id": f"lie-{method}", "method": method, "params": params})
        while True:
            message, descriptors = receive(self.sock)
            descriptors.close()
            if message is None or message.get("id") == f"lie-{method}":
                return (message or {}).get("error", {}).get("data", {}).get("code", "allowed")

    def judgement(self, ident, params):
        stranger = self.ask("judge", {"dial": params["id"] + 1, "addresses": ["127.0.0.1"]})
        self.refuse(ident, f"asked about the dial of somebody else: {stranger}")

    def listener(self, ident, _):
        words = [self.ask("accepted", {"listen": listen, "service": "pong", "labels": {"scheme": "tls", "cert.name": "root"}})
                 for listen in range(4)]
        self.refuse(ident, "asked about the listeners of somebody else: " + " ".join(words))

    def token(self, ident, params):
        ours, theirs = connected_pair()
        self.notify("deliver", {"token": "1", "fd": 0}, [ours.fileno()])
        self.notify("deliver", {"token": "1"}, [])
        ours.close()
        theirs.close()
        self.nothing(ident, params)

    def relayed(self, ident, params):
        for said in ({"received": 1000, "sent": 7}, {"received": 999, "sent": -1}, {"received": "2000", "sent": 1e300},
                     {"received": 1 << 53, "sent": (1 << 64) - 1}, {"received": None}, {}, [], {"received": 1000, "sent": 8}):
            self.notify("relayed", said)
        self.nothing(ident, params)

    def refuse(self, ident, sentence):
        send(self.sock, {"jsonrpc": "2.0", "id": ident, "error": Failure("UNREACHABLE", sentence).to_json()})


def main():
    liar = Liar(socket.socket(fileno=int(os.environ["PLUMBERD_HELPER_FD"])))
    if len(sys.argv) > 1:  # a lie at the very beginning
        liar.hello = json.loads(sys.argv[1])
    liar.run()


if __name__ == "__main__":
    main()
