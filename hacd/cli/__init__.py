"""The command line: click commands, a file per family. Heavy imports stand inside the commands."""
