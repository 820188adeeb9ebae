"""Correctors on hospitals of TCGA that they have not seen: scoreboard, leak and reading."""
