"""Reports: what is shown of a result. No report computes a verdict; what evidence adds to one comes through `witness`."""
