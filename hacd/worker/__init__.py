"""A worker: a CurlMulti on the loop. Transfers in, outcomes out."""
