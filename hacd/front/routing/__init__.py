"""The daemon's own routes: loaded from a file, entered by `run`, resumed with replies."""
