"""``python -m fairstep.data``: a worker of `fairstep.data.workers`."""

import os

from fairstep.data.workers import main

try:
    main()
except (KeyboardInterrupt, BrokenPipeError):  # the parent says what is to be said
    os._exit(1)
