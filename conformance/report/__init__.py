"""Reports: what is shown of a result. Pure: no report computes a verdict or touches evidence."""
