"""Effects by cell, shrunken towards what cells have in common."""
