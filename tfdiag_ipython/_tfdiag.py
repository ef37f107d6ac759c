"""The short name: ``%load_ext tfdiag``, ``import tfdiag``. All that it offers lives in :mod:`tfdiag_ipython`."""

from tfdiag_ipython import *  # noqa: F403
from tfdiag_ipython import __version__, load_ipython_extension, unload_ipython_extension  # noqa: F401
