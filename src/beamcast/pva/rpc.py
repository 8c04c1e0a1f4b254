"""Sealed messages over pvAccess RPC: requests that are answered, never coalesced, and cost about 0.3 ms.

pvaccess must not have been imported before the EPICS environment was set (`beamcast.pva.environment`), therefore it
is imported when a class here is used, not with the module.
"""

import hashlib
import itertools
import logging
import threading
import time
from collections.abc import Callable
from functools import cache
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from beamcast.core.errors import WorldError
from beamcast.pva.messages import Answer, Push, Request, decode_answer, decode_request, encode
from beamcast.security.secret import Refused, ReplayGuard, RunSecret, seal, unseal

logger = logging.getLogger(__name__)

Bytes = NDArray[np.uint8]

_FIELD = "envelope"
_PAYLOAD = "payload"


@cache
def _blank(*fields: str) -> Any:
    """An empty object with these fields; copying one takes a tenth of the time of making one."""
    import pvaccess

    return pvaccess.PvObject({field: [pvaccess.UBYTE] for field in fields})


def _to_pv(envelope: bytes, payload: Bytes | None = None) -> Any:
    pv = (_blank(_FIELD) if payload is None else _blank(_FIELD, _PAYLOAD)).copy()
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
    envelope and counted in `refused`; it never reaches `handle`. `take_push` gets results that are pushed, with the
    bytes that came beside the message; without it they are refused.
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
        self.refused = 0
        self.calls = 0

    def __enter__(self) -> Self:
        import pvaccess

        self._server = pvaccess.RpcServer()
        self._server.registerService(self._channel, self._serve)
        self._server.startListener()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stopListener()
        self._server.unregisterService(self._channel)
        self._server = None

    def _serve(self, pv: Any) -> Any:
        with self._lock:
            try:
                return _to_pv(self.answer(_from_pv(pv), self._payload(pv)))
            except Refused as refusal:
                self.refused += 1
                logger.warning("request refused: %s", refusal)
            except Exception:  # the boundary to C++: an exception there would end the process
                logger.exception("request failed")
            return _to_pv(b"")

    def _payload(self, pv: Any) -> Bytes | None:
        """The bytes beside the message, where any are taken: to look for them costs as much as to read the message."""
        if self._take_push is None or not pv.hasField(_PAYLOAD):
            return None
        return np.asarray(pv.getScalarArray(_PAYLOAD), dtype=np.uint8)

    def answer(self, envelope: bytes, payload: Bytes | None = None) -> bytes:
        """The sealed answer to a sealed request; Refused when the request, or what came beside it, is not ours."""
        opened = unseal(self._secret, envelope, direction="request")
        self._guard.admit(opened)
        self.calls += 1
        try:
            request = decode_request(opened.body)
        except ValueError as error:
            raise Refused(f"a message of {opened.sender} can't be read: {error}") from error
        body = encode(self._answer(request, payload))
        return seal(self._secret, direction="answer", sender="controller", counter=opened.counter, body=body)

    def _answer(self, request: Request, payload: Bytes | None) -> Answer:
        if not isinstance(request, Push):
            return self._handle(request)
        if self._take_push is None or payload is None:
            raise Refused("results are not to be pushed here, or came without their bytes")
        if digest(payload) != request.digest:
            raise Refused("pushed results were changed on their way")
        return self._take_push(request, payload)


class RpcCaller:
    """The member's side: sends a request and waits for its answer. One thread at a time."""

    def __init__(self, channel: str, *, secret: RunSecret, sender: str) -> None:
        self._channel = channel
        self._secret = secret
        self._sender = sender
        self._client: Any = None
        # Those that failed. One that goes takes its request along while the server may still be writing the answer, and
        # the server's process can crash of it (`SerializationHelper::serializeFull` in pvAccessCPP).
        self._left: list[Any] = []
        # Time makes the counter grow over the lives of a member, counting makes it grow within one.
        self._counter = itertools.count(time.time_ns())

    def share(self, other: "RpcCaller") -> None:
        """Use the connection of another caller of this channel, on the same thread, under this one's own name."""
        self._client = other.client()

    def client(self) -> Any:
        """The connection, made when it is first wanted."""
        import pvaccess

        if self._client is None:
            self._client = pvaccess.RpcClient(self._channel)
        return self._client

    def call(self, request: Request, *, timeout_s: float, payload: Bytes | None = None) -> Answer:
        """One exchange; WorldError when there is no answer in time, or only a late one to an earlier request; Refused
        when the answer is not the controller's. `payload` travels beside the envelope, which has to hold its
        `digest`."""
        import pvaccess

        counter = next(self._counter)
        body = encode(request)
        envelope = seal(self._secret, direction="request", sender=self._sender, counter=counter, body=body)
        try:
            answer = _from_pv(self.client().invoke(_to_pv(envelope, payload), timeout_s))
        except pvaccess.PvaException as error:
            self._leave_client()
            raise WorldError(
                f"the controller ({self._channel}) does not answer: {error}", retry_may_help=True
            ) from error
        return self._open(answer, counter)

    def _leave_client(self) -> None:
        """A client that failed once may stay deaf: the next call makes a new one."""
        self._left.append(self._client)
        self._client = None

    def _open(self, envelope: bytes, counter: int) -> Answer:
        if not envelope:
            raise Refused("the controller refused the message", hint="is this the secret of this run?")
        opened = unseal(self._secret, envelope, direction="answer")
        if opened.counter != counter:
            # Authentic, and late: that of an exchange which was given up. It says nothing about this one.
            self._leave_client()
            raise WorldError(
                f"the controller ({self._channel}) answered an earlier request", retry_may_help=True
            )
        try:
            return decode_answer(opened.body)
        except ValueError as error:
            raise Refused(f"the answer can't be read: {error}") from error
