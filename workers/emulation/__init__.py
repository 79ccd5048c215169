"""A small internet on loopback: receivers that behave, misbehave and keep count.

authority   a certificate authority of our own, and certificates of its making
behaviour   what a receiver does to those who bring mail
receiver    one mail server: a listener and its sessions
inbox       what arrived, copy by copy, and from whom
internet    the receivers of the demo, and the domains they take mail for
corpus      messages of many shapes, the same ones for the same seed
mailbox     messages from files instead
sender      the sender's side: sessions over STARTTLS that bring the corpus to the gateway
books       what was accepted against what arrived, recipient by recipient
"""
