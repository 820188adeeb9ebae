"""What changed from the reference to the deployment: drift, columns, support, case mix."""
