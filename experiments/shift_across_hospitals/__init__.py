"""Deploy at hospitals of TCGA one after the other: the drop predicted without labels against the real one."""
