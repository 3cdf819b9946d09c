"""The contenders. Each is a context manager that takes a Job and gives a Run; its module is loaded in a process
of its own alone, so that what it imports is in nobody else's memory, and missing in nobody else's way."""
