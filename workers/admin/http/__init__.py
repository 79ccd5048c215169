"""The HTTP interface: a server, who may come in, what is asked and what is answered."""
