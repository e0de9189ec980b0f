"""`python -m headrace`: the command line."""

import signal

# Python would answer Ctrl-C during the imports with a traceback. The default action ends the process without a word.
_python_handler = signal.getsignal(signal.SIGINT)
if _python_handler is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from headrace.cli import main  # noqa: E402

if _python_handler is signal.default_int_handler:
    signal.signal(signal.SIGINT, _python_handler)

if __name__ == "__main__":
    main()
