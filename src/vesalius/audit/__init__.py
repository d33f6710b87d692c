"""Whether what is claimed holds: comparison of runs, coverage of prediction sets; attacks, corruptions and subgroups are to come."""
