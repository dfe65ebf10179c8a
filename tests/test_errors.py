from selfhost.errors import SelfhostError


def test_what_a_child_says_has_a_hint_only_when_there_is_one() -> None:
    assert SelfhostError("it broke").lines() == ("error: it broke",)
    assert SelfhostError("it broke", hint="mend it").lines() == ("error: it broke", "hint: mend it")
