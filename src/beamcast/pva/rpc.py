"""Sealed messages over pvAccess RPC: requests that are answered, never coalesced, and cost about 0.3 ms.

pvaccess must not have been imported before the EPICS environment was set (`beamcast.pva.environment`), therefore it
is imported when a class here is used, not with the module.
"""

import hashlib
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from beamcast.core.errors import WorldError
from beamcast.pva.endpoint import line_of
from beamcast.pva.messages import Answer, Push, Request, decode_answer, decode_request, encode
from beamcast.security.secret import Opened, Refused, ReplayGuard, RunSecret, seal, unseal

logger = logging.getLogger(__name__)

Bytes = NDArray[np.uint8]

_FIELD = "envelope"
_PAYLOAD = "payload"
# There when the caller wants a line of its own.
_LINE = "line"
# pvaccess reads an answer after it has given up the interpreter, from where the next answer of the same service is put:
# so many answers later one may go.
KEPT_ANSWERS = 256
# Each life of each member opens one.
MAX_LINES = 1 << 16
# A new line is used after this time, by which it is connected: a search takes 0.1 to 0.2 s, and nobody waits for it.
LINE_SETTLE_S = 1.0


@cache
def _blank(*fields: str) -> Any:
    """An empty object with these fields; copying one takes a tenth of the time of making one."""
    import pvaccess

    return pvaccess.PvObject({field: [pvaccess.UBYTE] for field in fields})


def _to_pv(envelope: bytes, payload: Bytes | None = None, *, line: bool = False) -> Any:
    fields = (_FIELD, *([_PAYLOAD] if payload is not None else []), *([_LINE] if line else []))
    pv = _blank(*fields).copy()
    pv.setScalarArray(_FIELD, np.frombuffer(envelope, dtype=np.uint8))
    if payload is not None:
        pv.setScalarArray(_PAYLOAD, payload)
    return pv


def _from_pv(pv: Any) -> bytes:
    return bytes(np.asarray(pv.getScalarArray(_FIELD), dtype=np.uint8))


def digest(payload: Bytes) -> bytes:
    """What the sealed envelope says of the bytes that travel beside it, so that they are authentic too: SHA-256."""
    return hashlib.sha256(payload.data).digest()


class RpcEndpoint:
    """Serves one RPC channel: opens requests, hands them to `handle`, seals the answers.

    `handle` runs on a pvAccess thread, one call at a time. A request that is not ours is answered with an empty
    envelope; it never reaches `handle`. `take_push` gets results that are pushed, with the
    bytes that came beside the message; without it they are refused.

    Whoever asks more than once gets a line: a service of its own, under a name that begins with this channel's. In one
    that several processes ask at the same time pvaccess 5.6 mixes up the answers, and may crash
    (docs/decisions/0016-lines.md).
    """

    def __init__(
        self,
        channel: str,
        *,
        secret: RunSecret,
        handle: Callable[[Request], Answer],
        take_push: Callable[[Push, Bytes], Answer] | None = None,
    ) -> None:
        self._channel = channel
        self._secret = secret
        self._handle = handle
        self._take_push = take_push
        self._guard = ReplayGuard()
        self._lock = threading.Lock()
        self._server: Any = None
        self._lines: set[str] = set()
        self._kept: deque[Any] = deque(maxlen=KEPT_ANSWERS)

    def start(self) -> Self:
        """Serve until the process ends. One that may be asked can't be stopped: pvaccess would wait for its threads
        with the interpreter in its hands, and a thread that has a request waits for the interpreter."""
        import pvaccess

        self._server = pvaccess.RpcServer()
        self._server.registerService(self._channel, self._serve_anyone)
        self._server.startListener()
        return self

    def give_up(self) -> None:
        """End a service of which nobody has heard yet."""
        self._server.stopListener()
        self._server = None

    def _serve_anyone(self, pv: Any) -> Any:
        with self._lock:
            answer = _to_pv(self._reply(pv, opens=pv.hasField(_LINE)))
            self._kept.append(answer)
            return answer

    def _serve_one(self, pv: Any) -> Any:
        with self._lock:
            return _to_pv(self._reply(pv, opens=False))

    def _reply(self, pv: Any, *, opens: bool) -> bytes:
        try:
            opened = self._admit(_from_pv(pv))
            if opens:
                self._open_line(line_of(self._channel, opened.sender))
            return self._answer(opened, self._payload(pv))
        except Refused as refusal:
            logger.warning("request refused: %s", refusal)
        except Exception:  # the boundary to C++: an exception there would end the process
            logger.exception("request failed")
        return b""

    def _open_line(self, line: str) -> None:
        if line not in self._lines and len(self._lines) < MAX_LINES:
            self._lines.add(line)
            self._server.registerService(line, self._serve_one)

    def _payload(self, pv: Any) -> Bytes | None:
        """The bytes beside the message, where any are taken: to look for them costs as much as to read the message."""
        if self._take_push is None or not pv.hasField(_PAYLOAD):
            return None
        return np.asarray(pv.getScalarArray(_PAYLOAD), dtype=np.uint8)

    def _admit(self, envelope: bytes) -> Opened:
        opened = unseal(self._secret, envelope, direction="request")
        self._guard.admit(opened)
        return opened

    def _answer(self, opened: Opened, payload: Bytes | None) -> bytes:
        try:
            request = decode_request(opened.body)
        except ValueError as error:
            raise Refused(f"a message of {opened.sender} can't be read: {error}") from error
        body = encode(self._do(request, payload))
        return seal(self._secret, direction="answer", sender=opened.sender, counter=opened.counter, body=body)

    def _do(self, request: Request, payload: Bytes | None) -> Answer:
        if not isinstance(request, Push):
            return self._handle(request)
        if self._take_push is None or payload is None:
            raise Refused("results are not to be pushed here, or came without their bytes")
        if digest(payload) != request.digest:
            raise Refused("pushed results were changed on their way")
        return self._take_push(request, payload)


class _Connection:
    """What one thread asks through: the channel that anyone may ask and, soon after, a line of its own."""

    def __init__(self, channel: str, sender: str) -> None:
        self._channel = channel
        self._sender = sender
        self._client: Any = None
        self._line: Any = None
        self._line_since = 0.0
        # Those that failed: one that goes may take its request along while pvaccess still works on it.
        self._left: list[Any] = []

    def wants_line(self, sender: str) -> bool:
        """Whether the next request of this sender is to ask for one."""
        return self._line is None and sender == self._sender

    def client(self) -> Any:
        """Who is to be asked now; made when it is first wanted."""
        import pvaccess

        if self._line is not None and time.monotonic() - self._line_since > LINE_SETTLE_S:
            return self._line
        if self._client is None:
            self._client = pvaccess.RpcClient(self._channel)
        return self._client

    def line_is_open(self) -> None:
        """Such a request was answered: connect."""
        import pvaccess

        own = line_of(self._channel, self._sender)
        self._line, self._line_since = pvaccess.RpcClient(own), time.monotonic()

    def leave(self) -> None:
        """A client that failed once may stay deaf: the next call makes new ones."""
        self._left += [each for each in (self._client, self._line) if each is not None]
        self._client = self._line = None


class RpcCaller:
    """The member's side: sends a request and waits for its answer. One thread at a time."""

    def __init__(self, channel: str, *, secret: RunSecret, sender: str) -> None:
        """`sender` has to differ between processes."""
        self._channel = channel
        self._secret = secret
        self._sender = sender
        self._connection = _Connection(channel, sender)
        # Time makes the counter grow over the lives of a member, counting makes it grow within one.
        self._counter = itertools.count(time.time_ns())

    def share(self, other: "RpcCaller") -> None:
        """Use the connection of another caller of this channel, on the same thread, under this one's own name."""
        self._connection = other._connection

    def call(self, request: Request, *, timeout_s: float, payload: Bytes | None = None) -> Answer:
        """One exchange; WorldError when there is no answer in time, or only one to another request; Refused when the
        answer is not the controller's. `payload` travels beside the envelope, which has to hold its `digest`."""
        import pvaccess

        counter = next(self._counter)
        body = encode(request)
        envelope = seal(self._secret, direction="request", sender=self._sender, counter=counter, body=body)
        connection = self._connection
        wants_line = connection.wants_line(self._sender)
        pv = _to_pv(envelope, payload, line=wants_line)
        try:
            answer = _from_pv(connection.client().invoke(pv, timeout_s))
        except pvaccess.PvaException as error:
            connection.leave()
            raise WorldError(
                f"the controller ({self._channel}) does not answer: {error}", retry_may_help=True
            ) from error
        opened = self._open(answer, counter)
        if wants_line:
            connection.line_is_open()
        try:
            return decode_answer(opened.body)
        except ValueError as error:
            raise Refused(f"the answer can't be read: {error}") from error

    def _open(self, envelope: bytes, counter: int) -> Opened:
        if not envelope:
            raise Refused("the controller refused the message", hint="is this the secret of this run?")
        opened = unseal(self._secret, envelope, direction="answer")
        if (opened.sender, opened.counter) != (self._sender, counter):
            # Authentic, and of another exchange that pvaccess has mixed up with this one. It is over all the same.
            raise WorldError(
                f"the controller ({self._channel}) answered another request", retry_may_help=True
            )
        return opened
