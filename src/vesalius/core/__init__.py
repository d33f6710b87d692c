"""What everything else stands on: geometry, cards and shelves, settings, records and errors. Never torch."""
