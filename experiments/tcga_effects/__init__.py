"""How much of a pathology encoder's embedding the hospital causes, and how much the cancer type."""
