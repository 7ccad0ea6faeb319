from wavegen.utils.json_shape import fits, number, optional, whole


def test_shapes() -> None:
    assert fits([1, 2], [int])
    assert not fits([1, True], [int])
    assert not fits({"a": 1}, [int])
    assert fits({"a": [1, "x"], "b": 0}, {"a": (int, str)})
    assert not fits({"a": [1, "x", 2]}, {"a": (int, str)})
    assert not fits({}, {"a": int})
    assert fits({"a": "x", "b": "y"}, {str: str})
    assert not fits({"a": "x", "b": 1}, {str: str})
    assert fits(None, optional(str))
    assert not fits(1, optional(str))
    for value in (-1, 6, 1.0, True, "1", 10**400):
        assert not fits(value, whole(0, 5))
    for value in (float("nan"), float("inf"), 1.1, True, 10**400):
        assert not fits(value, number(0, 1))
    assert fits(0.5, number(0, 1))
    assert fits(1, number(0, 1))
