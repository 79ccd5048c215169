"""The words for what a reply says: labels, actions, and the Reading that joins them.

A label says what the reply is about and nothing of how long it holds: that is the first digit's to
say. From label, blame and permanence follows the action, unless a rule names another.
"""

import enum

import msgspec

from relay.model import Blame


class Label(enum.StrEnum):
    """What a reply is about."""

    MAILBOX_UNKNOWN = "mailbox_unknown"
    MAILBOX_FULL = "mailbox_full"
    MAILBOX_DISABLED = "mailbox_disabled"
    DOMAIN_UNKNOWN = "domain_unknown"
    RELAY_DENIED = "relay_denied"
    SENDER_REJECTED = "sender_rejected"
    AUTH_FAILED_POLICY = "auth_failed_policy"  # SPF, DKIM, DMARC
    CONTENT_SPAM = "content_spam"
    CONTENT_MALWARE = "content_malware"
    MESSAGE_TOO_LARGE = "message_too_large"
    RATE_LIMITED = "rate_limited"
    GREYLISTED = "greylisted"
    IP_REPUTATION_BLOCK = "ip_reputation_block"  # the receiver's own judgement of the address
    DNSBL_LISTED = "dnsbl_listed"  # a list that has a name
    PTR_MISSING = "ptr_missing"
    TLS_REQUIRED = "tls_required"
    NETWORK_OR_SYSTEM_TEMPORARY = "network_or_system_temporary"
    PROTOCOL_ERROR = "protocol_error"
    POLICY_OTHER = "policy_other"
    SUSPEND_ACCOUNT = "suspend_account"
    UNKNOWN = "unknown"


class Action(enum.StrEnum):
    """What is to be done about a reply."""

    BOUNCE = "bounce"
    RETRY = "retry"  # later; nothing else changes
    RETRY_SAME_SOURCE = "retry-same-source"  # a greylist waits for the same triple
    RETRY_OTHER_SOURCE = "retry-other-source"  # this source is refused, whatever its pace
    RECONNECT = "reconnect"  # this connection has had its messages; another may go on
    SLOW_SOURCE = "slow-source"
    FEWER_CONNECTIONS = "fewer-connections"
    SLOW_NETBLOCK = "slow-netblock"  # all sources of the same /24 (IPv6: /64) at the site
    QUARANTINE_SOURCE = "quarantine-source"  # an explicit block or listing
    SLOW_TENANT = "slow-tenant"  # on every source: rotating addresses makes it worse
    SLOW_RECIPIENT = "slow-recipient"
    FIX_SETUP = "fix-setup"  # our own fault: tell the operator; another source has it, too


class Reading(msgspec.Struct, frozen=True):
    """What one reply says.

    ``rule``: the name of the rule that decided. ``rest``: seconds that the rule says to stay away, 0
    if it says nothing.
    """

    label: Label
    blame: Blame
    action: Action
    rule: str
    permanent: bool
    rest: float = 0.0


_Blames = dict[Label, Blame]

# Whose it is, where the rule does not say.
_BLAMES: _Blames = {
    Label.MAILBOX_UNKNOWN: Blame.RECIPIENT,
    Label.MAILBOX_FULL: Blame.RECIPIENT,
    Label.MAILBOX_DISABLED: Blame.RECIPIENT,
    Label.DOMAIN_UNKNOWN: Blame.RECIPIENT,
    Label.RELAY_DENIED: Blame.HOST,
    Label.SENDER_REJECTED: Blame.TENANT,
    Label.AUTH_FAILED_POLICY: Blame.TENANT,
    Label.CONTENT_SPAM: Blame.MESSAGE,
    Label.CONTENT_MALWARE: Blame.MESSAGE,
    Label.MESSAGE_TOO_LARGE: Blame.MESSAGE,
    Label.RATE_LIMITED: Blame.SOURCE,
    Label.GREYLISTED: Blame.SESSION,
    Label.IP_REPUTATION_BLOCK: Blame.SOURCE,
    Label.DNSBL_LISTED: Blame.SOURCE,
    Label.PTR_MISSING: Blame.SOURCE,
    Label.TLS_REQUIRED: Blame.SESSION,
    Label.NETWORK_OR_SYSTEM_TEMPORARY: Blame.HOST,
    Label.PROTOCOL_ERROR: Blame.SESSION,
    Label.POLICY_OTHER: Blame.MESSAGE,
    Label.SUSPEND_ACCOUNT: Blame.TENANT,
    Label.UNKNOWN: Blame.SESSION,
}

# What slows whom, by whose the limit is. A limit never ends a message, whatever its first digit.
_LIMITS = {
    Blame.SOURCE: Action.SLOW_SOURCE,
    Blame.TENANT: Action.SLOW_TENANT,
    Blame.RECIPIENT: Action.SLOW_RECIPIENT,
}

# Temporary refusals that ask for more than patience.
_LATER = {
    (Label.MAILBOX_FULL, Blame.RECIPIENT): Action.SLOW_RECIPIENT,
    (Label.AUTH_FAILED_POLICY, Blame.TENANT): Action.SLOW_TENANT,
    (Label.CONTENT_SPAM, Blame.MESSAGE): Action.SLOW_TENANT,
    (Label.CONTENT_SPAM, Blame.TENANT): Action.SLOW_TENANT,
    (Label.SUSPEND_ACCOUNT, Blame.TENANT): Action.SLOW_TENANT,
    (Label.DNSBL_LISTED, Blame.TENANT): Action.SLOW_TENANT,
    (Label.IP_REPUTATION_BLOCK, Blame.SOURCE): Action.SLOW_SOURCE,
    (Label.GREYLISTED, Blame.SESSION): Action.RETRY_SAME_SOURCE,
}


def find_blame(label: Label) -> Blame:
    """Return whose a reply with this label is as a rule."""
    return _BLAMES[label]


def choose_action(label: Label, blame: Blame, *, permanent: bool) -> Action:
    """Return what is to be done where no rule says it."""
    if label in (Label.PTR_MISSING, Label.TLS_REQUIRED):
        return Action.FIX_SETUP
    if label is Label.RATE_LIMITED:
        return _LIMITS.get(blame, Action.RETRY)
    if label is Label.DNSBL_LISTED and blame is Blame.SOURCE:
        return Action.QUARANTINE_SOURCE
    if permanent:
        return _end(label, blame)
    if blame is Blame.SOURCE and label is not Label.IP_REPUTATION_BLOCK:
        return Action.FIX_SETUP if label is Label.POLICY_OTHER else Action.RETRY_OTHER_SOURCE
    return _LATER.get((label, blame), Action.RETRY)


def _end(label: Label, blame: Blame) -> Action:
    if label is Label.IP_REPUTATION_BLOCK:
        return Action.QUARANTINE_SOURCE
    if label is Label.POLICY_OTHER and blame in (Blame.SOURCE, Blame.SESSION):
        return Action.FIX_SETUP  # our name in EHLO, or that we do not log in
    return Action.RETRY_OTHER_SOURCE if blame is Blame.SOURCE else Action.BOUNCE
