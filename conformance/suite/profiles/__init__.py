"""Profiles: what drivers can do beyond the ten stages. A driver is asked only about the profiles that its manifest claims.

Each is one file, in the same form as a stage. A recording of a profile is judged by that profile's own checks and by the rules
of every stage: many of the commands in there are the user's, for which the driver does not answer.
"""
