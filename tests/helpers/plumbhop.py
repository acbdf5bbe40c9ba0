"""The hop: how the dialling side names the service it wants (docs/protocol.md, section 5), over asyncio sockets."""
import asyncio
import json
import struct

from plumbwire import Failure

REQUEST_MAX = 4096
ANSWER_MAX = 4096
HOPS_MAX = 8
ERROR, DATA, LOOKUP = 1, 2, 3
BARE_NAME, JSON_REQUEST = 3, 4
FRAMINGS = ("bytes", "ipc07", "ipc1")
WORDS = ("DENIED", "BAD_REQUEST", "UNKNOWN_SERVICE", "UNREACHABLE", "TIMEOUT", "AUTH", "NO_HELPER", "LOOP", "BUSY",
         "TAKEN", "INTERNAL")


def frame(kind, user_type, payload):
    return struct.pack(">BIB", kind, len(payload), user_type) + payload


def request_frame(service, hops, framing="bytes", claims=None):
    request = {"v": 1, "service": service, "hops": hops}
    if framing != "bytes":
        request["framing"] = framing
    if claims:
        request["claims"] = claims
    payload = json.dumps(request, separators=(",", ":")).encode()
    if len(payload) > REQUEST_MAX:
        raise Failure("BAD_REQUEST", f"the hop for {service} would take {len(payload)} bytes, {REQUEST_MAX} at most")
    return frame(LOOKUP, JSON_REQUEST, payload)


async def read_exactly(sock, size):
    """`size` bytes and not one more: what follows is not ours."""
    data = b""
    while len(data) < size:
        more = await asyncio.get_running_loop().sock_recv(sock, size - len(data))
        if not more:
            raise Failure("UNREACHABLE", f"the other side ended the connection {size - len(data)} bytes too early")
        data += more
    return data


async def read_frame(sock, longest):
    kind, length, user_type = struct.unpack(">BIB", await read_exactly(sock, 6))
    if length > longest:
        raise Failure("BAD_REQUEST", f"a hop of {length} bytes is longer than {longest}")
    return kind, user_type, await read_exactly(sock, length)


async def ask(sock, request, host):
    """The dialler's part: sends the request, reads the answer. Raises Failure, `far` where the far side refused."""
    await asyncio.get_running_loop().sock_sendall(sock, request)
    try:
        kind, _, payload = await read_frame(sock, ANSWER_MAX)
    except Failure as failure:
        raise Failure("UNREACHABLE", f"no hop answer from {host}: {failure.sentence}") from failure
    if (kind, payload) == (DATA, b"OK"):
        return
    word, colon, sentence = payload.partition(b": ")
    word = word.decode("ascii", "replace")
    if kind != ERROR or not colon or word not in WORDS:
        raise Failure("UNREACHABLE", f"{host} answered the hop with something else: no router listens there")
    raise Failure(word, f"{host} says: {printable(sentence)}", {"far": True})


async def read_request(sock):
    """The accepting side's part: (service, hops, framing, claims)."""
    kind, user_type, payload = await read_frame(sock, REQUEST_MAX)
    if kind != LOOKUP or user_type not in (BARE_NAME, JSON_REQUEST):
        raise Failure("BAD_REQUEST", f"a hop begins with a frame of type {LOOKUP}, not {kind}")
    if user_type == BARE_NAME:
        return payload.decode("ascii", "replace"), 1, "bytes", {}
    try:
        request = json.loads(payload)
        service, hops = request["service"], request.get("hops", 1)
        framing, claims = request.get("framing", "bytes"), request.get("claims", {})
        well_formed = (request["v"] == 1 and isinstance(service, str) and type(hops) is int and hops >= 1
                       and framing in FRAMINGS)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Failure("BAD_REQUEST", f"the hop is malformed: {error!r}") from error
    if not well_formed:
        raise Failure("BAD_REQUEST", "the hop is malformed")
    if hops > HOPS_MAX:
        raise Failure("LOOP", f"{hops} routers passed, {HOPS_MAX} at most")
    return service, hops, framing, claims if isinstance(claims, dict) else {}


async def accept(sock):
    await asyncio.get_running_loop().sock_sendall(sock, frame(DATA, 0, b"OK"))


async def refuse(sock, failure):
    text = f"{failure.word}: {printable(failure.sentence.encode())}".encode()
    await asyncio.get_running_loop().sock_sendall(sock, frame(ERROR, 0, text))


def printable(foreign):
    """Foreign bytes as they may be shown: printable ASCII, the rest as \\xNN, at most 256 bytes."""
    return "".join(chr(b) if 32 <= b < 127 else f"\\x{b:02x}" for b in foreign)[:256]
