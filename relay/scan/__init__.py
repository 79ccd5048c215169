"""Programs that look into messages for spam and malware, and what they say.

``scanner.py`` is what rules ask: time, places, and a breaker around one of ``clamd.py`` and
``rspamd.py``, which know how to put the question.
"""
