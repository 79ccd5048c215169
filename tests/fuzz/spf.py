"""SPF records as the doctor reads them: a record that is broken, in one line, or terms that can be judged."""

from workers.doctor.spf import _Broken, _read, _Record

SEEDS = [
    b"include:_spf.google.com ~all",
    b"ip4:192.0.2.0/24 ip6:2001:db8::/32 -all",
    b"a mx a:y.test/24//64 mx/24 ptr exists:%{i}.y.test ?all",
    b"redirect=_spf.y.test exp=why.y.test x=y",
    b"ip4:192.0.2.0/255.255.255.0",
    b"a://64 include: +-all all:x a/33 mx//129",
    b"ip6:::ffff:192.0.2.1/128 ip4:01.2.3.4 ip4:1.2.3.4/032",
]
_SHOWN = 200  # characters of an error


def check(octets: bytes) -> None:
    """No term without a meaning; no redirect beside "all"; errors are short, and one line."""
    text = octets.decode("latin-1")
    record: _Record | None = None
    try:
        record = _read(("x.test",), f"v=spf1 {text}")
    except _Broken as error:
        said = str(error)
        assert "\n" not in said
        assert len(said) < _SHOWN
    if record is None:
        return
    for term in record.terms:
        assert term.network is not None or term.name not in ("ip4", "ip6")
        assert term.domain or term.has_macro or term.name not in ("include", "exists")
        assert 0 <= term.lengths[0] <= 32
        assert 0 <= term.lengths[1] <= 128
    assert not (record.redirect and any(term.name == "all" for term in record.terms))
