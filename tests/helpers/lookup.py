#!/usr/bin/env python3
"""What programs of libipc 0.7 and v1 do on the wire, written from docs/protocol.md, section 6.

    lookup.py 0.7|v1 SERVICE VALUE [TEXT...]     looks SERVICE up with IPC_NETWORK=VALUE, then sends each TEXT as a message
                                                 and prints the one that comes back

Their habits included: one read per message, whatever it holds. Prints a line of JSON for the lookup, and one per answer; exit
status 1 when the lookup was refused, 3 when the connection ended instead of an answer.
"""
import array
import json
import os
import socket
import struct
import sys

READ_07 = 1_999_994 + 6
READ_V1 = 99_992 + 4
LOOKUP = 3
USER_DATA = 42


def door(name):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(f"{os.environ['IPC_RUNDIR']}/{name}")
    return sock


def receive_fd(sock, size):
    """One recvmsg: (bytes, socket or None)."""
    data, ancillary, _, _ = sock.recvmsg(size, socket.CMSG_SPACE(60 * 4), socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    for extra in fds[1:]:
        os.close(extra)
    return data, socket.socket(fileno=fds[0]) if fds else None


class Libipc07:
    """type, length, user type, payload"""

    @staticmethod
    def message(kind, user_type, payload):
        return struct.pack(">BIB", kind, len(payload), user_type) + payload

    def look_up(self, service, value):
        """The connection, or the text of the refusal."""
        with door("network") as sock:
            payload = f"{service};{value}".encode()[:8191]
            sock.sendall(self.message(LOOKUP, 3, payload))
            answer = sock.recv(READ_07)
            (length,) = struct.unpack_from(">xIx", answer)
            assert len(answer) == 6 + length, f"the answer of {length} bytes came glued to something: {answer!r}"
            if length != 2:
                return None, answer[6:].split(b"\0")[0].decode()
            byte, fd = receive_fd(sock, 1)
            assert byte == b"\0" and fd, "a byte without a descriptor crashes the real client"
            return fd, None

    def send(self, sock, text):
        sock.sendall(self.message(2, USER_DATA, text.encode()))

    def receive(self, sock):
        data = sock.recv(READ_07)
        if not data:
            return None
        kind, length, user_type = struct.unpack_from(">BIB", data)
        assert len(data) == 6 + length, f"{len(data)} bytes in a read that should be one message of {length}"
        return {"type": kind, "user_type": user_type, "text": data[6:].decode()}


class LibipcV1:
    """length, payload"""

    @staticmethod
    def message(payload):
        return struct.pack(">I", len(payload)) + payload

    def look_up(self, service, value):
        with door("ipc") as sock:
            sock.sendall(self.message(f"{service};{value}".encode()))
            data, fd = receive_fd(sock, 1500)
            if data == b"ok" and fd:
                return fd, None
            assert not data and not fd, f"neither ok nor the end: {data!r}"
            return None, "closed"

    def send(self, sock, text):
        sock.sendall(self.message(text.encode()))

    def receive(self, sock):
        data = sock.recv(READ_V1)
        if len(data) <= 4:
            return None
        (length,) = struct.unpack_from(">I", data)
        assert len(data) == 4 + length, f"{len(data)} bytes in a read that should be one message of {length}"
        return {"text": data[4:].decode()}


def main():
    _, version, service, value, *texts = sys.argv
    libipc = {"0.7": Libipc07, "v1": LibipcV1}[version]()
    sock, refusal = libipc.look_up(service, value)
    if sock is None:
        print(json.dumps({"refused": refusal}), flush=True)
        sys.exit(1)
    with sock:
        print(json.dumps({"family": sock.family.name, "blocking": os.get_blocking(sock.fileno())}), flush=True)
        for text in texts:
            try:
                libipc.send(sock, text)
                answer = libipc.receive(sock)
            except OSError:
                answer = None
            if answer is None:
                sys.exit(3)
            print(json.dumps(answer, sort_keys=True), flush=True)


if __name__ == "__main__":
    main()
