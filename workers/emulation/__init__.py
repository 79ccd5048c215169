"""A small internet on loopback: receivers that behave, misbehave and keep count.

behaviour   what a receiver does to those who bring mail
conversation one session: octets in and out, patience, the end of it
receiver    one mail server: a listener and its sessions
inbox       what arrived there, copy by copy, and from whom
internet    the receivers of the demo, and the domains they take mail for
corpus      messages of many shapes, the same ones for the same seed
mailbox     messages from files instead
envelopes   who sends them, and to whom
sender      sessions over STARTTLS that bring a corpus to the gateway
authority   a certificate authority of our own, and certificates of its making
premises    the gateway's directory: certificates, configuration
gateway     the gateway itself, as a child process
books       what was accepted against what arrived, recipient by recipient
providers   receivers that behave like providers do: `outgate emulate`
"""
