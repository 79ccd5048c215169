import pytest

from relay.smtp.command import BadCommand, Mail, Rcpt, read_mail, read_rcpt


def refuse_mail(argument: bytes) -> tuple[int, str]:
    with pytest.raises(BadCommand) as caught:
        read_mail(argument, max_size=1000)
    assert str(caught.value) == caught.value.text
    return caught.value.code, caught.value.status


@pytest.mark.parametrize("parameter", [b"REQUIRETLS", b"requiretls"])
def test_requiretls_is_read_where_it_was_offered(parameter: bytes) -> None:
    argument = b"FROM:<a@b> SIZE=9 " + parameter

    assert read_mail(argument, max_size=10, requiretls=True) == Mail(b"a@b", 9, requiretls=True)


@pytest.mark.parametrize("parameter", [b"REQUIRETLS=yes", b"REQUIRETLS REQUIRETLS"])
def test_requiretls_has_no_value_and_stands_once(parameter: bytes) -> None:
    with pytest.raises(BadCommand) as caught:
        read_mail(b"FROM:<a@b> " + parameter, max_size=10, requiretls=True)

    assert caught.value.status == "5.5.4"


def refuse_rcpt(argument: bytes, *, utf8: bool = False) -> tuple[int, str]:
    with pytest.raises(BadCommand) as caught:
        read_rcpt(argument, utf8=utf8)
    return caught.value.code, caught.value.status


@pytest.mark.parametrize(
    ("argument", "mail"),
    [
        (b"FROM:<a@b>", Mail(b"a@b")),
        (b"from:<>", Mail(b"")),
        (b"FROM: <a@b> ", Mail(b"a@b")),
        (b"FROM:<@r.test:a@b>", Mail(b"a@b")),
        (b"FROM:<a@b> SIZE=1000", Mail(b"a@b", size=1000)),
        (b"FROM:<a@b> size=0", Mail(b"a@b")),
        (b"FROM:<a@b> BODY=7bit", Mail(b"a@b", body=b"7BIT")),
        (b"FROM:<a@b> BODY=8BITMIME", Mail(b"a@b", body=b"8BITMIME")),
        (b"FROM:<a@b> SMTPUTF8", Mail(b"a@b", smtputf8=True)),
        ("FROM:<ä@b> SMTPUTF8".encode(), Mail("ä@b".encode(), smtputf8=True)),
        (b"FROM:<a@b> RET=hdrs ENVID=QQ+2B1", Mail(b"a@b", ret=b"HDRS", envid=b"QQ+2B1")),
        (
            b"FROM:<a@b> ENVID=x RET=FULL SMTPUTF8 BODY=8BITMIME SIZE=9",
            Mail(b"a@b", 9, b"8BITMIME", True, b"FULL", b"x"),
        ),
    ],
)
def test_mail_is_read(argument: bytes, mail: Mail) -> None:
    assert read_mail(argument, max_size=1000) == mail


@pytest.mark.parametrize(
    ("argument", "reply"),
    [
        (b"", (501, "5.1.7")),
        (b"FROM:a@b", (501, "5.1.7")),
        (b"FROM:<a>", (501, "5.1.7")),
        (b"FROM:<a@" + b"b" * 319 + b">", (501, "5.1.7")),
        (b"FROM:<a@b> SIZE=1001", (552, "5.3.4")),
        (b"FROM:<a@b> SIZE=99999999999999999999", (552, "5.3.4")),
        (b"FROM:<a@b> SIZE=-1", (555, "5.5.4")),
        (b"FROM:<a@b> SIZE=", (555, "5.5.4")),
        (b"FROM:<a@b> BODY=BINARYMIME", (555, "5.5.4")),
        (b"FROM:<a@b> SMTPUTF8=yes", (555, "5.5.4")),
        (b"FROM:<a@b> RET=ALL", (555, "5.5.4")),
        (b"FROM:<a@b> ENVID=a=b", (555, "5.5.4")),
        (b"FROM:<a@b> ENVID=" + b"x" * 101, (555, "5.5.4")),
        (b"FROM:<a@b> AUTH=<>", (555, "5.5.4")),
        (b"FROM:<a@b> REQUIRETLS", (555, "5.5.4")),
        (b"FROM:<a@b> \xff\xfe=1", (555, "5.5.4")),
        (b"FROM:<a@b> SIZE=1 size=2", (501, "5.5.4")),
        (b"FROM:<\xc3\xa4@b>", (553, "5.6.7")),
        (b"FROM:<\xff@b> SMTPUTF8", (553, "5.6.7")),
    ],
)
def test_mail_is_refused(argument: bytes, reply: tuple[int, str]) -> None:
    assert refuse_mail(argument) == reply


@pytest.mark.parametrize(
    ("argument", "rcpt"),
    [
        (b"TO:<a@b>", Rcpt(b"a@b")),
        (b"to: <Postmaster>", Rcpt(b"Postmaster")),
        (b"TO:<a@b> NOTIFY=never", Rcpt(b"a@b", notify=b"NEVER")),
        (b"TO:<a@b> NOTIFY=success,delay", Rcpt(b"a@b", notify=b"SUCCESS,DELAY")),
        (b"TO:<a@b> ORCPT=rfc822;A+2Bx@y", Rcpt(b"a@b", orcpt=b"rfc822;A+2Bx@y")),
        (
            b"TO:<a@b> ORCPT=rfc822;a NOTIFY=FAILURE",
            Rcpt(b"a@b", notify=b"FAILURE", orcpt=b"rfc822;a"),
        ),
    ],
)
def test_rcpt_is_read(argument: bytes, rcpt: Rcpt) -> None:
    assert read_rcpt(argument, utf8=False) == rcpt


def test_rcpt_may_be_utf8_when_mail_said_so() -> None:
    argument = "TO:<ö@ä.test> ORCPT=utf-8;ö@ä.test".encode()

    assert read_rcpt(argument, utf8=True) == Rcpt(
        "ö@ä.test".encode(), orcpt="utf-8;ö@ä.test".encode()
    )
    assert refuse_rcpt(argument) == (553, "5.6.7")


@pytest.mark.parametrize(
    ("argument", "reply"),
    [
        (b"TO:<>", (501, "5.1.3")),
        (b"TO:<nobody>", (501, "5.1.3")),
        (b"TO:a@b", (501, "5.1.3")),
        (b"TO:<a@b> NOTIFY=NEVER,FAILURE", (555, "5.5.4")),
        (b"TO:<a@b> NOTIFY=", (555, "5.5.4")),
        (b"TO:<a@b> ORCPT=rfc822", (555, "5.5.4")),
        (b"TO:<a@b> ORCPT=rfc822;\xc3\xa4", (555, "5.5.4")),
        (b"TO:<a@b> ORCPT=rfc822;" + b"x" * 501, (555, "5.5.4")),
        (b"TO:<a@b> SIZE=1", (555, "5.5.4")),
        (b"TO:<a@b> NOTIFY=NEVER NOTIFY=NEVER", (501, "5.5.4")),
    ],
)
def test_rcpt_is_refused(argument: bytes, reply: tuple[int, str]) -> None:
    assert refuse_rcpt(argument) == reply


def test_a_refusal_shows_no_more_of_a_parameter_than_is_fit_to_print() -> None:
    with pytest.raises(BadCommand) as caught:
        read_mail(b"FROM:<a@b> " + b"X\xff\x7f\x80" * 300 + b"=1", max_size=1)

    assert len(caught.value.text) < 100
    assert "X???X" in caught.value.text
    assert caught.value.text.isascii()
    assert caught.value.text.isprintable()


@pytest.mark.parametrize("character", ["\x85", "\x9b", "\u2028", "\u202e", "\u2066", "\u200f"])
def test_an_address_that_reads_like_another_is_refused(character: str) -> None:
    address = f"<a{character}b@x.test>".encode()

    with pytest.raises(BadCommand, match="control characters"):
        read_mail(b"FROM:" + address + b" SMTPUTF8", max_size=1000, requiretls=False)
    with pytest.raises(BadCommand, match="control characters"):
        read_rcpt(b"TO:" + address, utf8=True)


def test_a_parameter_that_is_no_utf8_is_refused() -> None:
    with pytest.raises(BadCommand, match="ORCPT"):
        read_rcpt(b"TO:<b@x.test> ORCPT=utf-8;b\xff@x.test", utf8=True)
