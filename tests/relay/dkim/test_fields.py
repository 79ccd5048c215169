from relay.dkim.fields import Fields, cut_message

HEAD = b"A: 1\r\nb : 2\r\n\tmore\r\nA: 3\r\nwhat\r\nFrom\r\n : x\r\na: 4\r\n"


def test_a_field_has_its_folded_lines() -> None:
    fields = Fields(HEAD)

    assert fields.find(b"a") == [0, 2, 5]
    assert fields[fields.find(b"b")[0]] == b"b : 2\r\n\tmore"
    assert fields[fields.find(b"from")[0]] == b"From\r\n : x"
    assert fields.find(b"c") == ()
    assert list(fields.names) == [b"a", b"b", b"what", b"from"]


def test_of_several_the_lowest_is_meant_first() -> None:
    fields = Fields(HEAD)

    assert fields.choose([b"a", b"b", b"a", b"c"]) == [b"a: 4", b"b : 2\r\n\tmore", b"A: 3"]
    assert fields.choose([b"a"] * 5) == [b"a: 4", b"A: 3", b"A: 1"]


def test_the_signature_itself_is_never_meant() -> None:
    fields = Fields(HEAD)

    assert fields.choose([b"a"] * 5, but=2) == [b"a: 4", b"A: 1"]
    assert fields.choose([b"a"], but=5) == [b"A: 3"]


def test_a_message_is_cut_at_the_first_empty_line() -> None:
    assert cut_message(b"A: 1\r\n\r\nx\r\n\r\ny") == (b"A: 1\r\n", b"x\r\n\r\ny")
    assert cut_message(b"A: 1\r\n\r\n") == (b"A: 1\r\n", b"")
    assert cut_message(b"A: 1\r\n") == (b"A: 1\r\n", b"")
    assert cut_message(b"\r\nx\r\n\r\ny") == (b"", b"x\r\n\r\ny")
    assert cut_message(b"") == (b"", b"")
