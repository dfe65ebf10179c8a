from collections import Counter
from pathlib import Path

import pytest

from gateway.rig import Engine, served
from selfhost.gateway.openai import ApiError
from selfhost.gateway.routing import Directory, least_loaded, not_ready
from selfhost.planner.routing import ReplicaState, RoutingTable


def engine(number: int) -> Engine:
    return Engine(Path(f"/run/{number}.sock"))


def test_the_least_loaded_replica_is_chosen() -> None:
    assert least_loaded([3, 1, 2], turn=0) == 1
    assert least_loaded([7], turn=5) == 0


def test_equal_replicas_take_turns() -> None:
    assert Counter(least_loaded([1, 1, 1], turn=turn) for turn in range(9)) == {0: 3, 1: 3, 2: 3}
    assert Counter(least_loaded([0, 5, 0], turn=turn) for turn in range(6))[1] == 0


def test_a_name_stands_for_the_ready_replicas_of_its_model() -> None:
    ready, loading = served("chat", engine(0)), served("chat", engine(0), engine(1), state="loading")
    mixed = served("chat", engine(0), engine(1), aliases=("default",))
    assert [len(Directory(RoutingTable(models=(model,))).find("chat").ready) for model in (ready, loading, mixed)] == [
        1,
        0,
        2,
    ]
    directory = Directory(RoutingTable(models=(mixed, served("embed"))))
    assert directory.find("default") is directory.find("chat")
    assert directory.names == ("chat", "default", "embed")


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    directory = Directory(RoutingTable(models=(served("chat", aliases=("default",)), served("embed"))))
    with pytest.raises(ApiError, match="'gpt-4' is not served here; known models: chat, default, embed") as refused:
        directory.find("gpt-4")
    assert (refused.value.status, refused.value.code, refused.value.param) == (404, "model_not_found", "model")
    with pytest.raises(ApiError, match="known models: none"):
        Directory(RoutingTable(models=())).find("gpt-4")


@pytest.mark.parametrize("state", [state for state in ReplicaState if state is not ReplicaState.READY])
def test_a_model_that_is_not_ready_says_so_and_when_to_come_back(state: ReplicaState) -> None:
    error = not_ready(served("chat", engine(0), state=state))
    assert (error.status, error.message) == (503, f"model 'chat' is {state.value}")
    (header,) = error.headers
    assert header[0] == "retry-after"
    assert int(header[1]) > 0


def test_the_replica_nearest_to_ready_speaks_for_its_model() -> None:
    failed = served("chat", engine(0), state="failed", cause="out of memory").upstreams
    warming = served("chat", engine(1), state="warming", cause="first token").upstreams
    model = served("chat")
    both = type(model)(name="chat", aliases=(), max_model_len=1, upstreams=failed + warming)
    assert not_ready(both).message == "model 'chat' is warming: first token"
    assert not_ready(model).message == "model 'chat' has no replica"
