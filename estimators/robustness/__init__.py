"""How strong an undeclared common cause would have to be."""
