"""Who counts as unknown, and claims without those who are not tried."""

import csv
from pathlib import Path

import pytest

from relay.model import Claim, Outcome, Recipient
from tests.kit.peer import make_delivery
from workers.classify import classify_reply
from workers.suppression import is_unknown, make_outcome, trim

CORPUS = Path(__file__).parents[3] / "shared" / "corpus" / "replies.dev.tsv"


def answer(code: int, status: str, text: str, command: str = "RCPT") -> Outcome:
    return classify_reply(command, code, status, text)


@pytest.mark.parametrize(
    ("code", "status", "text"),
    [
        (550, "5.1.1", "5.1.1 <b@y.test>: Recipient address rejected: User unknown in table"),
        (550, "5.1.1", "5.1.1 The email account that you tried to reach does not exist."),
        (550, "5.1.10", "5.1.10 RESOLVER.ADR.RecipientNotFound; not found by SMTP address lookup"),
        (553, "5.1.1", "5.1.1 no"),
        (550, "", "No such user here"),
        (550, "", "user unknown"),
        (550, "", "<b@y.test> unknown user account"),
        (550, "", "Mailbox b does not exist"),
    ],
)
def test_nobody_has_the_address(code: int, status: str, text: str) -> None:
    assert is_unknown(answer(code, status, text))


@pytest.mark.parametrize(
    ("code", "status", "text"),
    [
        (450, "4.1.1", "4.1.1 User unknown"),
        (550, "4.1.1", "4.1.1 User unknown"),
        (550, "5.7.1", "5.7.1 User unknown"),
        (550, "5.7.1", "5.7.1 Recipient address rejected: Access denied"),
        (550, "5.1.2", "5.1.2 bad destination system"),
        (550, "5.1.8", "5.1.8 sender's domain does not exist"),
        (550, "5.2.1", "5.2.1 mailbox disabled"),
        (552, "5.2.2", "5.2.2 mailbox full"),
        (550, "5.1.1", "5.1.1 unknown user: your IP is blocked"),
        (550, "5.1.1", "5.1.1 rejected by our spam policy"),
        (550, "", "relaying denied: unknown user"),
        (550, "", "sender verification failed: no such user"),
        (550, "5.1.1", "5.1.1 b@y.test has sent to too many recipients this hour"),
        (550, "5.1.1", "5.1.1 no mail is taken for that domain"),
        (552, "5.1.1", "5.1.1 his box is at its limit"),
        (550, "", "rejected"),
        (550, "", ""),
        (551, "", "no such user"),
        (554, "", "no such user"),
        (503, "5.1.1", "5.1.1 no such user"),
        (421, "5.1.1", "5.1.1 no such user"),
    ],
)
def test_anything_else_is_not_held_against_a_recipient(code: int, status: str, text: str) -> None:
    assert not is_unknown(answer(code, status, text))


@pytest.mark.parametrize("command", ["CONNECT", "EHLO", "MAIL", "DATA", "."])
def test_only_an_answer_about_one_recipient_counts(command: str) -> None:
    assert not is_unknown(answer(550, "5.1.1", "5.1.1 no such user", command))


def test_our_own_refusal_is_not_counted() -> None:
    assert not is_unknown(make_outcome(Recipient(b"b@y.test"), 3))


@pytest.mark.skipif(not CORPUS.exists(), reason="the corpus is not beside the checkout")
def test_real_policy_replies_never_count() -> None:
    with CORPUS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    counted = {True: 0, False: 0}
    for row in rows:
        if not row["code"].isdigit():
            continue
        text = row["text"].removeprefix(row["code"]).strip()
        if is_unknown(answer(int(row["code"]), row["enhanced"], text)):
            counted[row["label"] == "mailbox_unknown"] += 1
    assert counted[True] >= 10
    assert counted[False] == 0


def test_trimmed_claim_lacks_some_recipients_and_remembers_them() -> None:
    people = [b"a@y.test", b"b@y.test", b"c@y.test"]
    claim = Claim(make_delivery(*people), 3, "token", 2, b"body", b"{}")

    trimmed = trim(claim, frozenset([b"b@y.test", b"x@y.test"]))

    assert [r.address for r in trimmed.delivery.envelope.recipients] == [people[0], people[2]]
    assert trimmed.withheld == (Recipient(people[1]),)
    assert (trimmed.token, trimmed.shard, trimmed.attempts) == ("token", 3, 2)
    assert (trimmed.body, trimmed.previous) == (b"body", b"{}")

    again = trim(trimmed, frozenset([b"c@y.test"]))
    assert [r.address for r in again.delivery.envelope.recipients] == [people[0]]
    assert again.withheld == (Recipient(people[1]), Recipient(people[2]))
