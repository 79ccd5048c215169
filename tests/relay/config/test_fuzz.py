"""Whatever stands in a configuration: a Config, or ConfigError with a line and a path for each problem."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import configuration
from tests.fuzz.settings import check_document, documents


@settings(max_examples=200, deadline=None)
@given(documents())
def test_a_document_of_right_and_wrong_values(document: dict[str, object]) -> None:
    check_document(document)


@settings(deadline=None)
@given(st.text(max_size=80) | st.binary(max_size=80))
def test_any_octets_are_a_configuration_or_an_error(octets: str | bytes) -> None:
    configuration.check(octets if isinstance(octets, bytes) else octets.encode())
