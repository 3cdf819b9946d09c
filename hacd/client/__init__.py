"""What callers import: `Client` (blocking) and `AsyncClient` (asyncio). No pyuv, no pycurl."""
