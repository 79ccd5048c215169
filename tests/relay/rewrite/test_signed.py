"""What DKIM signatures cover."""

import pytest

from relay.rewrite import find_signed

GOOGLE = (
    b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n"
    b"        d=acme.test; s=google; t=1;\r\n"
    b"        h=To:Subject : Message-ID:\r\n         from; bh=h=x:y; b=zz\r\n"
)


@pytest.mark.parametrize(
    ("head", "names"),
    [
        (b"", []),
        (b"From: a\r\nh=from\r\n", []),
        (GOOGLE, ["to", "subject", "message-id", "from"]),
        (b"dkim-signature :h=A\r\nDKIM-Signature: b=1;h=B:a;\r\n\r\nDKIM-Signature: h=body\r\n", ["a", "b"]),
        (b"DKIM-Signature: h=:;\r\nDKIM-Signature: x\r\nX: h=c\r\n", []),
    ],
)  # fmt: skip
def test_names(head: bytes, names: list[str]) -> None:
    assert find_signed(head) == {name.encode() for name in names}
