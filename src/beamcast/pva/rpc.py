"""Sealed messages over pvAccess RPC: requests that are answered, never coalesced, and cost about 0.3 ms.

pvaccess must not have been imported before the EPICS environment was set (`beamcast.pva.environment`), therefore it
is imported when a class here is used, not with the module.
"""

import itertools
import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import numpy as np

from beamcast.core.errors import WorldError
from beamcast.pva.messages import Answer, Request, decode_answer, decode_request, encode
from beamcast.security.secret import Refused, ReplayGuard, RunSecret, seal, unseal

logger = logging.getLogger(__name__)

_FIELD = "envelope"


def _to_pv(envelope: bytes) -> Any:
    import pvaccess

    pv = pvaccess.PvObject({_FIELD: [pvaccess.UBYTE]})
    pv[_FIELD] = np.frombuffer(envelope, dtype=np.uint8)
    return pv


def _from_pv(pv: Any) -> bytes:
    return bytes(np.asarray(pv[_FIELD], dtype=np.uint8))


class RpcEndpoint:
    """Serves one RPC channel: opens requests, hands them to `handle`, seals the answers.

    `handle` runs on a pvAccess thread, one call at a time. A request that is not ours is answered with an empty
    envelope and counted in `refused`; it never reaches `handle`.
    """

    def __init__(self, channel: str, *, secret: RunSecret, handle: Callable[[Request], Answer]) -> None:
        self._channel = channel
        self._secret = secret
        self._handle = handle
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
                return _to_pv(self.answer(_from_pv(pv)))
            except Refused as refusal:
                self.refused += 1
                logger.warning("request refused: %s", refusal)
            except Exception:  # the boundary to C++: an exception there would end the process
                logger.exception("request failed")
            return _to_pv(b"")

    def answer(self, envelope: bytes) -> bytes:
        """The sealed answer to a sealed request; Refused when the request is not ours."""
        opened = unseal(self._secret, envelope, direction="request")
        self._guard.admit(opened)
        self.calls += 1
        try:
            request = decode_request(opened.body)
        except ValueError as error:
            raise Refused(f"a message of {opened.sender} can't be read: {error}") from error
        body = encode(self._handle(request))
        return seal(self._secret, direction="answer", sender="controller", counter=opened.counter, body=body)


class RpcCaller:
    """The member's side: sends a request and waits for its answer. One thread at a time."""

    def __init__(self, channel: str, *, secret: RunSecret, sender: str) -> None:
        self._channel = channel
        self._secret = secret
        self._sender = sender
        self._client: Any = None
        # Time makes the counter grow over the lives of a member, counting makes it grow within one.
        self._counter = itertools.count(time.time_ns())

    def call(self, request: Request, *, timeout_s: float) -> Answer:
        """One exchange; WorldError when there is no answer in time, Refused when the answer is not the controller's."""
        import pvaccess

        counter = next(self._counter)
        body = encode(request)
        envelope = seal(self._secret, direction="request", sender=self._sender, counter=counter, body=body)
        try:
            if self._client is None:
                self._client = pvaccess.RpcClient(self._channel)
            answer = _from_pv(self._client.invoke(_to_pv(envelope), timeout_s))
        except pvaccess.PvaException as error:
            self._client = None  # a client that failed once may stay deaf: the next call makes a new one
            raise WorldError(
                f"the controller ({self._channel}) does not answer: {error}", retry_may_help=True
            ) from error
        return self._open(answer, counter)

    def _open(self, envelope: bytes, counter: int) -> Answer:
        if not envelope:
            raise Refused("the controller refused the message", hint="is this the secret of this run?")
        opened = unseal(self._secret, envelope, direction="answer")
        if opened.counter != counter:
            raise Refused("the answer belongs to another request")
        try:
            return decode_answer(opened.body)
        except ValueError as error:
            raise Refused(f"the answer can't be read: {error}") from error
