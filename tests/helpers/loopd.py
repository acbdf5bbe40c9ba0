#!/usr/bin/env python3
"""A complete helper of plumberd for a scheme of its own, written from docs/protocol.md alone.

    loop://HOST:PORT            any TCP server of this machine
    loop://HOST:PORT/SERVICE    a plumberd host of this machine: the far side is asked for SERVICE by the hop

HOST is a loopback address or localhost; whatever is not on this machine is refused here, whatever the rules say.
"""
import asyncio
import contextlib
import errno
import ipaddress
import os
import resource
import signal
import socket
import sys
import urllib.parse

import plumbhop
from plumbrelay import relay
from plumbwire import Channel, Failure

SCHEME = "loop"
HOP_TIMEOUT_MS = 5000
HEAD_START = 0.25  # seconds that an address has before the next is tried beside it
FAREWELL = 1  # seconds that a refused peer has to read why
UNFINISHED_MAX = 1024  # connections that have not been admitted yet; then the one that dawdles longest makes room
EXIT_USAGE = 100
KEEPALIVE = ((socket.SO_KEEPALIVE, socket.SOL_SOCKET, 1),
             (socket.TCP_KEEPIDLE, socket.IPPROTO_TCP, 60),
             (socket.TCP_KEEPINTVL, socket.IPPROTO_TCP, 10),
             (socket.TCP_KEEPCNT, socket.IPPROTO_TCP, 6),
             (socket.TCP_NODELAY, socket.IPPROTO_TCP, 1))


class Place:
    """A URI of ours, taken apart."""

    def __init__(self, uri):
        parts = urllib.parse.urlsplit(uri)
        try:
            self.host, self.port = parts.hostname or "", parts.port
        except ValueError as error:
            raise Failure("BAD_REQUEST", f"{uri}: {error}") from error
        if parts.scheme != SCHEME or parts.username is not None or parts.query or parts.fragment or self.port is None:
            raise Failure("BAD_REQUEST", f"{uri} is not {SCHEME}://HOST:PORT[/SERVICE]")
        self.path = parts.path

    def addresses(self):
        if self.host == "localhost" or self.host.endswith(".localhost"):
            return ["127.0.0.1", "::1"]
        return [self.host]

    def __str__(self):
        return f"{self.host}:{self.port}"


def on_this_machine(address):
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError as error:
        raise Failure("BAD_REQUEST", f"{SCHEME} knows no host {address}") from error
    if not parsed.is_loopback:
        raise Failure("DENIED", f"{address} is not on this machine, and {SCHEME} does not leave it")
    return parsed


def new_socket(address):
    family = socket.AF_INET6 if on_this_machine(address).version == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    return sock


async def connect_one(address, port, source):
    sock = new_socket(address)
    try:
        if source:
            sock.bind((source, 0))
        await asyncio.get_running_loop().sock_connect(sock, (address, port))
        return sock
    except BaseException:
        sock.close()
        raise


async def connect_first(addresses, place, source):
    """The first of the addresses that answers; each has a head start before the next one (RFC 8305)."""
    attempts, reasons = [], []
    try:
        for i, address in enumerate(addresses):
            attempts.append(asyncio.create_task(connect_one(address, place.port, source)))
            patience = HEAD_START if i + 1 < len(addresses) else None
            while pending := [attempt for attempt in attempts if not attempt.done()]:
                await asyncio.wait(pending, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                if any(attempt.done() and not attempt.exception() for attempt in attempts) or patience:
                    break
            for attempt in attempts:
                if attempt.done() and not attempt.exception():
                    attempts.remove(attempt)
                    return attempt.result()
        reasons = [str(attempt.exception()) for attempt in attempts]
    finally:
        for attempt in attempts:
            attempt.cancel()
        for late in await asyncio.gather(*attempts, return_exceptions=True):
            if isinstance(late, socket.socket):
                late.close()
    raise Failure("UNREACHABLE", f"{place} cannot be reached: " + "; ".join(reasons))


def fit_for_strangers(sock):
    """A socket as its new holder expects it: blocking, no delays, dead peers noticed."""
    if sock.family != socket.AF_UNIX:
        for name, level, value in KEEPALIVE:
            sock.setsockopt(level, name, value)
    sock.setblocking(True)
    return sock.detach()


def labels_of(sock):
    peer, local = sock.getpeername(), sock.getsockname()
    return {"scheme": SCHEME, "peer.address": peer[0], "peer.port": str(peer[1]),
            "local.address": local[0]}


class Helper:
    def __init__(self, sock):
        self.relays, self.dials, self.listeners = set(), {}, {}
        requests = {"dial": self.dial, "listen": self.listen}
        notifications = {"configure": self.configure, "cancel": self.cancel, "unlisten": self.unlisten,
                         "relay": self.join}
        self.generation = 0
        self.channel = Channel(sock, requests, notifications)
        self.channel.notify("hello", {"protocol": 1, "schemes": [SCHEME]})

    async def run(self):
        """Until the channel ends and the last relay has."""
        await self.channel.ended
        for listener in self.listeners.values():
            listener.close()
        while self.relays:
            await asyncio.wait(self.relays)

    def log(self, level, message):
        self.channel.notify("log", {"level": level, "message": message})

    # --- notifications
    def configure(self, params, _):
        self.generation = params["generation"]

    def cancel(self, params, _):
        if task := self.dials.get(params["id"]):
            task.cancel()

    def unlisten(self, params, _):
        if listener := self.listeners.pop(params["id"], None):
            listener.close()

    def join(self, params, descriptors):
        a = descriptors.take(params["a"])
        try:
            b = descriptors.take(params["b"])
        except Failure:
            a.close()
            raise
        self.start_relay(a, b, params["framing"], params.get("idle_ms", 0))

    def start_relay(self, a, b, framing, idle_ms):
        task = asyncio.create_task(relay(a, b, framing, idle_ms / 1000))
        self.relays.add(task)
        task.add_done_callback(self.relays.discard)

    # --- dial
    async def dial(self, params, descriptors):
        if params["id"] in self.dials:
            raise Failure("BAD_REQUEST", "a dial with this id is under way")
        self.dials[params["id"]] = asyncio.current_task()
        try:
            async with asyncio.timeout(params["deadline_ms"] / 1000):
                return await self.connected(params, descriptors)
        except asyncio.CancelledError as error:
            raise Failure("TIMEOUT", "nobody waits any more") from error
        except TimeoutError as error:
            raise Failure("TIMEOUT", f"{params['uri']} did not answer in {params['deadline_ms']} ms") from error
        finally:
            del self.dials[params["id"]]

    async def connected(self, params, descriptors):
        place = Place(params["uri"])
        sock = descriptors.take(params["fd"]) if "fd" in params else await self.connect(params, place)
        try:
            if "service" in params:
                await self.hop(sock, params, place)
            return {"fd": 0, "path": "direct", "labels": labels_of(sock)}, [fit_for_strangers(sock)]
        except BaseException:
            sock.close()
            raise

    async def connect(self, params, place):
        addresses = params.get("addresses") or place.addresses()
        if params["judge"]:
            answer, none = await self.channel.request("judge", {"dial": params["id"], "addresses": addresses})
            none.close()
            addresses = [a for a in answer["allowed"] if a in addresses]
            if not addresses:
                raise Failure("DENIED", f"no address of {place} may be connected to")
        for address in addresses:
            on_this_machine(address)
        return await connect_first(addresses, place, params.get("settings", {}).get("source"))

    async def hop(self, sock, params, place):
        sock.setblocking(False)
        request = plumbhop.request_frame(params["service"], params.get("hops", 1), params.get("framing", "bytes"),
                                         params.get("claims"))
        patience = params.get("settings", {}).get("hop_timeout_ms", HOP_TIMEOUT_MS)
        try:
            async with asyncio.timeout(patience / 1000):
                await plumbhop.ask(sock, request, place.host)
        except TimeoutError as error:
            raise Failure("TIMEOUT", f"{place} did not answer the hop in {patience} ms") from error
        except OSError as error:
            raise Failure("UNREACHABLE", f"no hop answer from {place}: {error.strerror}") from error

    # --- listen
    async def listen(self, params, _):
        if params["id"] in self.listeners:
            raise Failure("BAD_REQUEST", "a listener with this id exists")
        place = Place(params["uri"])
        sockets = bind_all(place)
        self.listeners[params["id"]] = Listener(self, sockets, params)
        host = f"[{place.host}]" if ":" in place.host else place.host
        return {"uri": f"{SCHEME}://{host}:{sockets[0].getsockname()[1]}{place.path}"}, []


def bind_all(place):
    """A socket per address, all on one port: the first one's choice where the URI says 0."""
    sockets, port = [], place.port
    for address in place.addresses():
        sock = new_socket(address)
        try:
            if sock.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address, port))
            sock.listen(1024)
        except OSError as error:
            sock.close()
            if sockets:
                break  # a machine without IPv6
            words = {errno.EADDRINUSE: "TAKEN", errno.EACCES: "DENIED"}
            raise Failure(words.get(error.errno, "UNREACHABLE"), f"cannot listen on {place}: {error.strerror}") from error
        sockets.append(sock)
        port = sock.getsockname()[1]
    return sockets


class Listener:
    """One `listen`: accepts, learns what is wanted, asks the router, and hands over or relays."""

    def __init__(self, helper, sockets, params):
        self.helper, self.sockets, self.id, self.service = helper, sockets, params["id"], params.get("service")
        settings = params.get("settings", {})
        self.patience = settings.get("hop_timeout_ms", HOP_TIMEOUT_MS) / 1000
        self.relay_idle_ms = settings.get("relay_idle_ms", 0)
        self.dawdling, self.inbound = {}, set()  # the former in order of arrival
        self.accepting = [asyncio.create_task(self.accept(sock)) for sock in sockets]

    def close(self):
        for task in [*self.accepting, *self.inbound]:
            task.cancel()
        for sock in self.sockets:
            sock.close()

    async def accept(self, listener):
        while True:
            try:
                sock, _ = await asyncio.get_running_loop().sock_accept(listener)
            except OSError as error:  # out of descriptors, or the peer has gone already: neither is the end
                self.helper.log("warn", f"accept: {error.strerror}")
                await asyncio.sleep(0.1)
                continue
            if len(self.inbound) >= UNFINISHED_MAX and self.dawdling:
                next(iter(self.dawdling)).cancel()
            task = asyncio.create_task(self.welcome(sock))
            self.inbound.add(task)
            self.dawdling[task] = None
            task.add_done_callback(self.gone)

    def gone(self, task):
        self.inbound.discard(task)
        self.dawdling.pop(task, None)

    async def welcome(self, sock):
        sock.setblocking(False)
        with contextlib.closing(sock), contextlib.suppress(OSError, TimeoutError):
            try:
                async with asyncio.timeout(self.patience):
                    wanted = (self.service, None, "bytes", None) if self.service else await plumbhop.read_request(sock)
                self.dawdling.pop(asyncio.current_task(), None)
                await self.offer(sock, *wanted)
            except Failure as failure:
                if not self.service:
                    async with asyncio.timeout(FAREWELL):
                        await plumbhop.refuse(sock, failure)
                        sock.shutdown(socket.SHUT_WR)
                        while await asyncio.get_running_loop().sock_recv(sock, 4096):
                            pass

    async def offer(self, sock, service, hops, framing, claims):
        asked = {"listen": self.id, "service": service, "labels": labels_of(sock)}
        if hops is not None:
            asked |= {"hops": hops, "framing": framing, "claims": claims}
        answer, descriptors = await self.helper.channel.request("accepted", asked)
        try:
            other = descriptors.take(answer["fd"]) if answer["mode"] == "relay" else None
        finally:
            descriptors.close()
        try:
            if not self.service:
                async with asyncio.timeout(self.patience):
                    await plumbhop.accept(sock)
        except BaseException:
            if other:
                other.close()
            raise
        taken = socket.socket(fileno=sock.detach())
        if other:
            self.helper.start_relay(taken, other, framing, self.relay_idle_ms)
        else:
            self.helper.channel.notify("deliver", {"token": answer["token"], "fd": 0}, [fit_for_strangers(taken)])


async def main():
    number = os.environ.pop("PLUMBERD_HELPER_FD", "")
    if not number.isdigit():
        print(f"{sys.argv[0]} is started by plumberd: PLUMBERD_HELPER_FD is not set", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    os.set_inheritable(int(number), False)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    helper = Helper(socket.socket(fileno=int(number)))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, helper.channel.close)
    await helper.run()


if __name__ == "__main__":
    asyncio.run(main())
