"""What hacd's own processes say to each other, beside jobs and outcomes."""

# On the line between the supervisor and a child, a byte each.
READY = b"R"  # the front: every worker has said hello
STOP = b"S"  # the front: a caller who may asks the daemon to stop
DRAIN = b"D"  # to a child: finish what you have, take no more, end
END = b"E"  # to a child: end now

# Between a worker and the front: HELLO makes a worker take jobs; its BYE that it gets no more.
HELLO = "hello"
BYE = "bye"
