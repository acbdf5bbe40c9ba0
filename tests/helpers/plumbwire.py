"""Messages of plumberd: JSON-RPC 2.0 over SOCK_SEQPACKET with descriptors (docs/protocol.md, section 2).

Written from the document alone; shared by the helpers and clients in this directory. Standard library only.
"""
import asyncio
import collections
import json
import os
import socket

MESSAGE_MAX = 65536
FDS_MAX = 16
QUEUE_MAX = 4096  # messages that the other side has not read yet


class Failure(Exception):
    """An error as the wire has it: a word for programs, a sentence for people, and what else came with it."""

    def __init__(self, word, sentence, data=None):
        super().__init__(f"{word}: {sentence}")
        self.word, self.sentence = word, sentence
        self.data = dict(data or {}, code=word)

    @classmethod
    def from_json(cls, error):
        data = error.get("data") or {}
        return cls(data.get("code", "INTERNAL"), error.get("message", "no sentence"), data)

    def to_json(self):
        return {"code": -32000, "message": self.sentence, "data": self.data}


class Descriptors:
    """The descriptors of one message: ours until taken, and closed if nobody does."""

    def __init__(self, fds=()):
        self._fds = list(fds)

    def take(self, index):
        """The `index`-th as a socket object that owns it."""
        if not isinstance(index, int) or not 0 <= index < len(self._fds) or self._fds[index] < 0:
            raise Failure("BAD_REQUEST", f"no descriptor {index} came with the message")
        fd, self._fds[index] = self._fds[index], -1
        try:
            return socket.socket(fileno=fd)
        except OSError as error:
            os.close(fd)
            raise Failure("BAD_REQUEST", f"descriptor {index} is no socket: {error.strerror}") from error

    def close(self):
        for fd in self._fds:
            if fd >= 0:
                os.close(fd)
        self._fds = []


def send(sock, message, fds=()):
    """One datagram. The descriptors stay the caller's."""
    data = json.dumps(message, separators=(",", ":")).encode()
    if len(data) > MESSAGE_MAX:
        raise Failure("BAD_REQUEST", f"a message of {len(data)} bytes is longer than {MESSAGE_MAX}")
    if fds:
        socket.send_fds(sock, [data], list(fds), socket.MSG_NOSIGNAL)
    else:
        sock.send(data, socket.MSG_NOSIGNAL)


def receive(sock):
    """One datagram: (message, Descriptors), or (None, none) at the end of the connection."""
    data, fds, flags, _ = socket.recv_fds(sock, MESSAGE_MAX + 1, FDS_MAX, socket.MSG_CMSG_CLOEXEC)
    descriptors = Descriptors(fds)
    if not data:
        descriptors.close()
        return None, descriptors
    if len(data) > MESSAGE_MAX or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        descriptors.close()
        raise Failure("BAD_REQUEST", "a message, or what came with it, was cut")
    try:
        message = json.loads(data)
    except (ValueError, RecursionError) as error:
        descriptors.close()
        raise Failure("BAD_REQUEST", f"not JSON: {error}") from error
    if not isinstance(message, dict):
        descriptors.close()
        raise Failure("BAD_REQUEST", "not an object")
    return message, descriptors


class Channel:
    """One end of a connection in an asyncio program: requests both ways, answered in any order.

    `requests`: method -> coroutine function (params, Descriptors) -> (result, [fd, ...]); the descriptors of the
    result are closed once sent. `notifications`: method -> function (params, Descriptors).
    """

    def __init__(self, sock, requests, notifications):
        sock.setblocking(False)
        self._sock, self._requests, self._notifications = sock, requests, notifications
        self._loop = asyncio.get_running_loop()
        self._out = collections.deque()
        self._waiting, self._tasks, self._last_id = {}, set(), 0
        self.ended = self._loop.create_future()
        self._loop.add_reader(sock, self._readable)

    def notify(self, method, params, fds=()):
        """Sends a notification; takes over the raw descriptors."""
        self._queue({"jsonrpc": "2.0", "method": method, "params": params}, fds)

    async def request(self, method, params, fds=()):
        """Sends a request and waits: (result, Descriptors), which the caller closes. Raises Failure."""
        self._last_id += 1
        ident, answer = self._last_id, self._loop.create_future()
        self._waiting[ident] = answer
        try:
            self._queue({"jsonrpc": "2.0", "id": ident, "method": method, "params": params}, fds)
            return await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled() and not answer.exception():
                answer.result()[1].close()  # it came in the very turn in which we were told to stop
            raise
        finally:
            self._waiting.pop(ident, None)

    def close(self):
        if self.ended.done():
            return
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        self.ended.set_result(None)
        for _, fds in self._out:
            Descriptors(fds).close()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(Failure("INTERNAL", "the router is gone"))
        for task in self._tasks:
            task.cancel()

    # --- sending: in order, at most QUEUE_MAX behind
    def _queue(self, message, fds):
        if self.ended.done():
            Descriptors(fds).close()
            return
        self._out.append((message, list(fds)))
        if len(self._out) > QUEUE_MAX:
            self.close()
        elif len(self._out) == 1:
            self._flush()

    def _flush(self):
        while self._out:
            message, fds = self._out[0]
            try:
                send(self._sock, message, fds)
            except BlockingIOError:
                self._loop.add_writer(self._sock, self._flush)
                return
            except OSError:
                self.close()
                return
            self._out.popleft()
            Descriptors(fds).close()
        self._loop.remove_writer(self._sock)

    # --- receiving
    def _readable(self):
        try:
            message, descriptors = receive(self._sock)
        except BlockingIOError:
            return
        except Failure as failure:  # garbage: tell the other side, go on with the next datagram
            self._queue({"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": failure.sentence}}, ())
            return
        except OSError:
            self.close()
            return
        if message is None:
            self.close()
        elif "method" in message:
            self._called(message, descriptors)
        else:
            self._answered(message, descriptors)

    def _answered(self, message, descriptors):
        answer = self._waiting.pop(message.get("id"), None)
        if answer is None or answer.done():
            descriptors.close()
        elif "error" in message:
            descriptors.close()
            answer.set_exception(Failure.from_json(message["error"]))
        else:
            answer.set_result((message.get("result") or {}, descriptors))

    def _called(self, message, descriptors):
        method, params = message["method"], message.get("params") or {}
        if "id" in message:
            task = self._loop.create_task(self._serve(message["id"], method, params, descriptors))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        try:
            if method in self._notifications:
                self._notifications[method](params, descriptors)
        except (Failure, KeyError, TypeError, ValueError) as error:
            self.notify("log", {"level": "warn", "message": f"{method} was ignored: {error!r}"})
        finally:
            descriptors.close()

    async def _serve(self, ident, method, params, descriptors):
        answer, fds = {"jsonrpc": "2.0", "id": ident}, []
        try:
            if method in self._requests:
                answer["result"], fds = await self._requests[method](params, descriptors)
            else:
                answer["error"] = {"code": -32601, "message": f"no method {method}"}
        except Failure as failure:
            answer["error"] = failure.to_json()
        except (KeyError, TypeError, ValueError) as error:
            answer["error"] = Failure("BAD_REQUEST", f"{method} cannot be understood: {error!r}").to_json()
        finally:
            descriptors.close()
        self._queue(answer, fds)
