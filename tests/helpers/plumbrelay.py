"""Relays: bytes as they come, or whole messages of libipc, between two sockets (docs/protocol.md, sections 4 and 6.3)."""
import asyncio
import contextlib
import fcntl
import os
import socket
import struct
import termios

CHUNK = 65536
SEGMENT_MAX = 36_544  # a message up to here travels with a descriptor, which keeps the next one out of the same read
UNREAD_MAX = 32  # such messages that the other side has not read
REPLY_SECONDS = 1
DRAIN_SECONDS = 2
SIOCOUTQ = termios.TIOCOUTQ
BARRIER = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)  # to be discarded by who receives it


async def relay(a, b, framing, idle=0):
    """Owns both sockets; returns when both directions have ended, or nothing was carried for `idle` seconds (0: never)."""
    with a, b, contextlib.suppress(TimeoutError):
        a.setblocking(False)
        b.setblocking(False)
        async with asyncio.timeout(idle or None) as limit:
            def carried():
                if idle:
                    limit.reschedule(asyncio.get_running_loop().time() + idle)
            if framing == "bytes":
                await asyncio.gather(copy(a, b, carried), copy(b, a, carried))
            else:
                await Messages(a, b, framing, carried).run()


async def copy(source, sink, carried):
    """One direction: until its end, which is passed on. A broken one ends the other, too."""
    loop = asyncio.get_running_loop()
    try:
        while data := await loop.sock_recv(source, CHUNK):
            await loop.sock_sendall(sink, data)
            carried()
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


class Messages:
    """Both directions of a relay that keeps messages whole. The end of either side ends the relay."""

    def __init__(self, a, b, framing, carried):
        self._header, self._longest, self._keeps_empty = {
            "ipc07": (struct.Struct(">xIx"), 1_999_994, True),
            "ipc1": (struct.Struct(">I"), 99_992, False),
        }[framing]
        self._carried = carried
        self._sinks = {a: Sink(a), b: Sink(b)}
        self._unanswered = None  # the side that spoke last
        self._answer = asyncio.Event()

    async def run(self):
        a, b = self._sinks
        ways = {asyncio.create_task(self._carry(a, b)): a, asyncio.create_task(self._carry(b, a)): b}
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            if self._unanswered is ways[done.pop()]:
                await self._wait_for_answer()
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        await asyncio.gather(drain(a), drain(b))

    async def _wait_for_answer(self):
        """These programs drop the answers that they have queued when they see the end."""
        self._answer.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._answer.wait(), REPLY_SECONDS)

    async def _carry(self, source, sink):
        """Whole messages from one side to the other. An incomplete or an impossible one is dropped with its side."""
        loop = asyncio.get_running_loop()
        held = bytearray()
        try:
            while data := await loop.sock_recv(source, CHUNK):
                held += data
                while message := self._take(held):
                    if self._keeps_empty or len(message) > self._header.size:
                        await self._sinks[sink].put(message)
                        self._unanswered = source
                        self._answer.set()
                        self._carried()
            await self._sinks[sink].until_read()
        except (OSError, ValueError):
            return

    def _take(self, held):
        """The first whole message of what has come so far, taken out of it; None while there is none."""
        if len(held) < self._header.size:
            return None
        (length,) = self._header.unpack_from(held)
        if length > self._longest:
            raise ValueError(f"a message of {length} bytes")
        size = self._header.size + length
        if len(held) < size:
            return None
        message = bytes(held[:size])
        del held[:size]
        return message


class Sink:
    """Writes one message in one write; on this machine never a second one into the same read."""

    def __init__(self, sock):
        self._sock, self._is_unix, self._barriers = sock, sock.family == socket.AF_UNIX, 0

    async def put(self, message):
        if not self._is_unix:
            await asyncio.get_running_loop().sock_sendall(self._sock, message)
            return
        if len(message) > SEGMENT_MAX:
            await self.until_read()
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * len(message))
            await asyncio.get_running_loop().sock_sendall(self._sock, message)
            await self.until_read()
            return
        if self._barriers == UNREAD_MAX:
            await self.until_read()
        while True:
            try:
                # Of at most one segment all is taken, or nothing.
                socket.send_fds(self._sock, [message], [BARRIER], socket.MSG_NOSIGNAL)
                self._barriers += 1
                return
            except BlockingIOError:
                await self.until_writable()

    async def until_read(self):
        """Until the program at the other end has read everything; there is no event for it."""
        while self._is_unix and struct.unpack("i", fcntl.ioctl(self._sock, SIOCOUTQ, bytes(4)))[0]:
            await asyncio.sleep(0.001)
        self._barriers = 0

    async def until_writable(self):
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        loop.add_writer(self._sock, lambda: ready.done() or ready.set_result(None))
        try:
            await ready
        finally:
            loop.remove_writer(self._sock)


async def drain(sock):
    """Ends our direction, then discards what still comes: closing over unread bytes would reset the connection."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            sock.shutdown(socket.SHUT_WR)
            while await loop.sock_recv(sock, CHUNK):
                pass
