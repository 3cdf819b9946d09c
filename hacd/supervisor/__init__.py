"""The supervisor: binds the sockets, forks, reaps, restarts with back-off. No loop, no pycurl."""
