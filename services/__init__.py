"""One folder a service, and the chassis they stand on."""
