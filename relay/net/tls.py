"""TLS contexts, built once per process.

TLS 1.2 is the least (RFC 8996). Verification uses subject alternative names only, as OpenSSL
does since Python 3.12 and as RFC 9525 asks; the common name is not looked at.
"""

import functools
import ssl

from relay.errors import CertificateRefused, StartError


def make_server_context(certificate: str, key: str) -> ssl.SSLContext:
    """Build the context for STARTTLS on the way in. Paths of PEM files. Raises CertificateRefused.

    Client certificates are not asked for: Gmail's are about to lose the purpose "client"
    (announced in March 2026), and a server that asks would refuse them.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # Without a password function OpenSSL would ask for one at the terminal, and wait.
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        raise CertificateRefused(f"{_explain(error)} ({certificate}, {key})") from error
    return context


def _explain(error: OSError | ValueError) -> str:
    """Say what is wrong with certificate and key, and what was expected."""
    reason = getattr(error, "reason", None) or ""
    if reason == "KEY_VALUES_MISMATCH":
        return "the key does not belong to the certificate: put both of one pair there"
    if isinstance(error, ssl.SSLError | ValueError):
        why = f" (OpenSSL: {reason.replace('_', ' ').lower()})" if reason else ""
        return f"expected a certificate chain and its key without a password, in PEM{why}"
    return f"certificate or key cannot be read: {error.strerror or error}"


@functools.cache
def make_client_context(*, verify: bool, ca_file: str = "") -> ssl.SSLContext:
    """Build the context for STARTTLS on the way out.

    ``verify``: check chain and host name; otherwise any certificate will do (opportunistic TLS
    protects against those who only listen, RFC 7435). Raises StartError for a bad ``ca_file``.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    context.hostname_checks_common_name = False
    try:
        if ca_file:
            context.load_verify_locations(ca_file)
        else:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    except (OSError, ssl.SSLError) as error:
        raise StartError(f"delivery.ca_file: cannot use {ca_file}: {error}") from error
    return context
