"""Correctors side by side: refitted in every fold, scored on patients and at sites that they have not seen."""
