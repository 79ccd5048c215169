"""What can be wrong with a gateway around its configuration: store, resolver, certificate, sources.

``outgate doctor`` looks at all of it (examination.py). Each check is a function that returns findings
(finding.py) and raises nothing: what cannot be asked is a finding, too. Workers look at the sources
from time to time (watch.py), tell what has changed, and keep those that fail from sending, if the
configuration wants that (gate.py).

Who does not answer has not said no: a DNS that is down is never held against a source.
"""
