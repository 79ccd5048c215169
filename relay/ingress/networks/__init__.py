"""Sets of networks: where tenants' mail may come from, kept as fresh as their owners publish it.

``definition``  what each set is and where its networks come from; those that are built in
``spf``         reads them off SPF records
``ranges``      reads them off Google's JSON format
``lookup``      asks the one or the other
``blocks``      networks in their shortest form, and a quick answer to "is this address in them?"
``guard``       may these take the place of those?
``sets``        keeps all sets that are in use fresh, with the store's help
"""
