"""Bridges to other frameworks, one file each, imported when an object of the framework is used."""
