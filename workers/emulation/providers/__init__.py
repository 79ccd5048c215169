"""Receivers that behave like providers: limits by client address, memory, patience that ends.

profile     what one provider does: a [[provider]] of the providers' file
settings    the file itself
wording     whose words it says it in
bucket      how much has come from an address, and whether more may
client      what a provider remembers of one address
greylist    what it has seen before
allowance   how much it takes of an address in a day, and how that grows
provider    all of it: opinions and memory, with no socket and no clock of its own
host        a provider on a loopback port
feedback    complaints on their way to who wants to know
"""
