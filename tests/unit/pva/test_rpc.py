"""What a caller makes of an answer that is not for its request."""

import itertools
from typing import Any

import pytest

from beamcast.core.errors import WorldError
from beamcast.pva.messages import Retired, Taken, encode
from beamcast.pva.rpc import RpcCaller, _to_pv
from beamcast.security.secret import SECRET_BYTES, Refused, RunSecret, seal

SECRET = RunSecret(bytes(SECRET_BYTES))


class Answers:
    """A connection on which this answer comes, whatever is asked."""

    def __init__(self, secret: RunSecret, counter: int, sender: str = "work/0") -> None:
        body = encode(Taken())
        self.answer = _to_pv(seal(secret, direction="answer", sender=sender, counter=counter, body=body))

    def invoke(self, request: Any, timeout_s: float) -> Any:
        return self.answer


def caller(answers: Answers) -> RpcCaller:
    made = RpcCaller("run:rendezvous", secret=SECRET, sender="work/0")
    made._connection._client = answers
    return made


def test_an_answer_to_another_request_is_no_answer_and_the_call_may_be_repeated() -> None:
    late = caller(Answers(SECRET, counter=7))
    with pytest.raises(WorldError, match="answered another request") as caught:
        late.call(Retired(keys=b""), timeout_s=1.0)
    assert caught.value.retry_may_help


def test_an_answer_to_somebody_else_is_no_answer() -> None:
    mixed_up = caller(Answers(SECRET, counter=7, sender="work/1"))
    mixed_up._counter = itertools.count(7)
    with pytest.raises(WorldError, match="answered another request"):
        mixed_up.call(Retired(keys=b""), timeout_s=1.0)


def test_an_answer_of_another_run_is_refused() -> None:
    stranger = Answers(RunSecret(bytes([1]) * SECRET_BYTES), counter=7)
    with pytest.raises(Refused):
        caller(stranger).call(Retired(keys=b""), timeout_s=1.0)
