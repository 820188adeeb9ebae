"""What each group adds to an estimate, and the estimators that are built so."""
