"""The dashboard: one static page that works offline, and the figures it asks for."""
