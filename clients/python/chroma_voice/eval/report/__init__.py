"""The results of an evaluation: tables, JSON and a page."""
