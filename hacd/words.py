"""What hacd's own processes say to each other, beside jobs and outcomes."""

# On the line between the supervisor and a child: a datagram each, a byte and what belongs to it.
READY = b"R"  # the front: every worker has said hello
STOP = b"S"  # the front: a caller who may asks the daemon to stop
STUCK = b"W"  # the front: this worker does not answer; its number and its pid
CONFIG = b"C"  # a front: these settings are in force now; children of later get them, and the other fronts
DRAIN = b"D"  # to a child: finish what you have, take no more, end; with ALL, so do all
ALL = b"A"
END = b"E"  # to a child: end now
LOG = b"L"  # to the front: what the supervisor logged, for who tails the log
REOPEN = b"O"  # to a child: the log's file was moved away
ALIVE = b"A"  # the front: its loop turns
FIGURES = b"F"  # the front: what it has counted; said where systemd is told
STATES = b"T"  # to the front: of each worker its number, its state and how often it was started again
FRONTS = b"P"  # to the front: of each front its number, its pid, its state and how often it was started again
RELOAD = b"H"  # to the front: read the settings and the routes again; it says the same when it has

#: bytes of a datagram on the line at the most
DATAGRAM = 65536

# Between a worker and the front: HELLO makes a worker take jobs; its BYE that it gets no more.
HELLO = "hello"
BYE = "bye"
LOGGED = "log"  # its value: what the worker logged, for who tails the log
PONG = "pong"  # its loop turns
ARENA = "arena"  # `[number, size]`: a caller has one from now on, whose descriptor comes along; size 0: no more
FALLBACK = "fallback"  # so many bodies found no room in shared memory

# From the front to a worker.
CONFIGURE = "config"  # what is set, and how ids look to callers
PING = "ping"  # a heartbeat: its loop answers
FREED = "freed"  # a file of so many bytes is let go of
RETURNED = "returned"  # `[number, begin, …]`: what is in that arena, in that block, is let go of
LEFT = "left"  # of the arena of that number: its caller has gone

# Between two fronts: the one that dials says who it is, and the other says the same.
PEER = "peer"
