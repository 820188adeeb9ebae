"""Performance in a population where biology and factor are independent."""
