"""The admin service: what is seen and steered from outside, over HTTP."""
