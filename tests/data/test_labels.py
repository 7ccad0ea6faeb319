import pytest

from wavegen.data import labels
from wavegen.errors import LabelError

ATTRIBUTES = {"digit": ("0", "7"), "speaker": ("theo", "ann")}


def test_ids_follow_the_attributes_and_zero_is_unspecified() -> None:
    assert labels.encode({"speaker": "ann", "digit": "0"}, ATTRIBUTES) == [1, 2]
    assert labels.encode({"speaker": "ann"}, ATTRIBUTES) == [labels.UNSPECIFIED, 2]
    assert labels.encode({}, {}) == []


def test_words_of_a_command_line() -> None:
    assert labels.parse(["digit=7", "speaker=theo"], ATTRIBUTES) == {
        "digit": "7",
        "speaker": "theo",
    }
    assert labels.parse(["dog"], {"label": ("cat", "dog")}) == {"label": "dog"}
    assert labels.parse(["label=dog"], {"label": ("cat", "dog")}) == {"label": "dog"}
    assert labels.parse(["a=b"], {"label": ("a=b",)}) == {"label": "a=b"}


@pytest.mark.parametrize(
    ("texts", "attributes", "says"),
    [
        (["digit=8"], ATTRIBUTES, "unknown digit '8': choose one of 0, 7"),
        (["age=9"], ATTRIBUTES, "unknown label attribute 'age'.*digit=0|7"),
        (["7"], ATTRIBUTES, "names no attribute"),
        (["digit=7", "digit=0"], ATTRIBUTES, "given twice"),
        (["bird"], {"label": ("cat", "dog")}, "unknown label 'bird': choose one of cat, dog"),
        (["dog"], {}, "trained without labels"),
    ],
)
def test_a_wrong_label_gets_an_error_that_lists_the_right_ones(texts, attributes, says) -> None:
    with pytest.raises(LabelError, match=says):
        labels.parse(texts, attributes)


def test_descriptions_make_safe_file_names() -> None:
    assert labels.describe({"speaker": "theo", "digit": "7"}, ATTRIBUTES) == "7-theo"
    assert labels.describe({}, ATTRIBUTES) == "any"
    assert labels.file_name("../a/b") == "..%2Fa%2Fb"
    assert labels.file_name("a/b") != labels.file_name("a%2Fb")
    long = [labels.file_name("æ" * 300 + end) for end in "ab"]
    assert long[0] != long[1]
    assert all(len(name.encode()) <= 180 for name in long)


def test_no_two_descriptions_of_all_attributes_give_one_file_name() -> None:
    classes = ("x", "x-y", "y", "y-x", "x%2Dy", "x-")
    attributes = {"a": classes, "b": classes}
    stems = {labels.file_stem({"a": a, "b": b}, attributes) for a in classes for b in classes}
    assert len(stems) == len(classes) ** 2
    # Nor do those that leave an attribute out give the name of two classes.
    assert stems.isdisjoint(labels.file_stem({"a": a}, attributes) for a in classes)
    assert labels.file_stem({"digit": "7", "speaker": "theo"}, ATTRIBUTES) == "7-theo"
    assert labels.file_stem({"label": "x-y"}, {"label": ("x-y",)}) == "x-y"
    assert labels.file_stem({}, ATTRIBUTES) == "any"
