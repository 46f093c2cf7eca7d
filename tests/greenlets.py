"""Programs whose threads are greenlets."""

PATCHED = """
import sys
if sys.argv[1] == "gevent":
    from gevent import monkey
    monkey.patch_all()
else:
    import warnings
    warnings.simplefilter("ignore")
    import eventlet
    eventlet.monkey_patch()
"""
"""The beginning of a program: its first argument, "gevent" or "eventlet", says which greenlets its threads are."""
