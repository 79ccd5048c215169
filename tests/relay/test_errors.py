"""What went wrong, whatever groups it comes in."""

from relay.errors import OutgateError, StoreError, flatten


def test_groups_are_taken_apart() -> None:
    one, two, three = OutgateError("1"), StoreError("2"), KeyboardInterrupt()
    assert list(flatten(one)) == [one]
    grouped = BaseExceptionGroup("", [one, BaseExceptionGroup("", [two, three])])
    assert list(flatten(grouped)) == [one, two, three]
