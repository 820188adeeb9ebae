"""One module per family of files. :func:`causalfm.read` and :func:`causalfm.write` are the way in."""
