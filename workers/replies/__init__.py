"""What receivers say: a reply becomes a label, a blame and an action.

label.py       the words: labels, actions, and a Reading, which is what a reply says
rule.py        one rule: read from TOML, checked
rules.toml     the rules themselves, in the order in which they are tried
classifier.py  the rules compiled into one automaton, and the look-up
transcript.py  replies as people write them down, a line each or several
"""
