"""What a team would write by hand: the least that does a visible part of the job. Measured, never
used."""
