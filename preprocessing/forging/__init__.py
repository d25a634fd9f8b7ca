"""Forgeries of a person's own photographs: listing them, planning, editing, writing."""
