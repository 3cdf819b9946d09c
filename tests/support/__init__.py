"""The real things that tests run against: a daemon, and origins."""
