"""Receivers that behave like providers: limits by client address, memory, patience that ends.

profile     what one provider does: a [[provider]] of the providers' file
settings    the file itself
wording     whose words it says it in (replies.toml)
bucket      how much has come from an address, and whether more may
patience    penalties that grow when they are ignored, and blocks
allowance   how much it takes of an address in a day, and how that grows
books       what it counts of an address
client      all that it remembers of one
greylist    what it has seen before
complaints  who will complain about what, and when
provider    all of it: opinions and memory, with no socket and no clock of its own
host        a provider on a loopback port
report      a complaint as ARF
postbox     complaints on their way to who wants to know
routes      what belongs into outgate.toml, so that mail goes there
"""
