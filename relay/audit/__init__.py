"""The audit trail: every event and every command of an operator, in chains of lines.

Each process writes a *chain* of its own, ``<audit.directory>/<host>.<role>.<slot>/``, a file for each
day (UTC). A line is an event with its number in the chain and the SHA-256 of the line before it in
front; a day ends with a *seal*, which commits to all its lines and, with a key, is signed. What
somebody changes, takes out or puts in later does not fit the lines around it; the ends of chains,
which nothing follows, are in the store.

    chain      where chains are, and who holds one
    line       a line: its shape, and how it follows from another
    seal       the end of a day
    end        where a chain ended, for whoever goes on with it
    trail      the chain that this process writes
    beacon     tells the store how far it is
    purged     days that were taken away, as it stands in the chains of operators
    verify     reads everything, and says what is wrong (reading: one chain of it)
    export     a tenant's lines, and what shows that they stood in the trail (proof: checks that)
    purge      takes away what is old

What it shows, and what not: with the store at hand, or a key, nobody who can only write the files
can change what was written without `outgate audit verify` saying so. Who has the files, the store
and the key, can write a new past; so keep copies of seals elsewhere. What a process has not been
told it cannot write: lines are on disk within a second or so, and until then a crash of the host may
cost them.
"""
