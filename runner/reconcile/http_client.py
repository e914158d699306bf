"""httpx, without its command line.

httpx loads that, with rich and pygments, wherever click and rich happen to be installed: more than
half of our start-up time. None makes the import of it fail, as if they were not.
"""

import sys

sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]

import httpx  # noqa: E402

__all__ = ["httpx"]
